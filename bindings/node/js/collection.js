'use strict'
const native = require('./native.js')
const { convert, guarded, invalid } = require('./errors.js')
const { known, signalOf, under } = require('./signal.js')
const { collectionEmbedder, embedderOf } = require('./embedder.js')
const { SearchTool } = require('./tool.js')

const openOptions = ['scope', 'language', 'codesOnly', 'storage', 'metric', 'fusion', 'chunks']
const flags = ['highlight', 'phrases', 'fuzzy', 'exactFirst', 'expression']
const numbers = ['minScore', 'minRelevance', 'diversity']
const searchOptions = ['topK', 'filter', 'mode', 'vector', 'vectorField', 'unit', ...numbers, ...flags]

/** A question as JSON. JSON has no NaN and no infinity: they would pass for options that were left out. */
function queryText(text, options) {
  const { signal: _, vector, ...settings } = known('options', options, [...searchOptions, 'signal'])
  for (const name of flags) {
    if (![undefined, true, false].includes(settings[name])) throw invalid(name, 'pass true or false')
  }
  for (const name of numbers) {
    if (settings[name] !== undefined && !Number.isFinite(settings[name])) throw invalid(name, 'pass a number')
  }
  return JSON.stringify({ text, ...settings, vector: vector && Array.from(vector) })
}

/**
 * Drives a native stream of progress events to its report. A callback that throws stops the work, and what it threw is
 * what the caller gets. Waits until the engine has stopped, so that the collection is quiet afterwards.
 */
async function withProgress(start, onProgress, signal) {
  const cancel = new native.Cancel()
  const stop = () => cancel.cancel()
  signal?.addEventListener('abort', stop, { once: true })
  let thrown
  try {
    const events = guarded(() => start(cancel))
    for (let ready; (ready = events.take()) !== null; ) {
      if (ready === '') await events.wait()
      else if (onProgress && thrown === undefined) {
        try {
          for (const event of JSON.parse(ready)) onProgress(event)
        } catch (error) {
          thrown = { error }
          stop()
        }
      }
    }
    if (thrown === undefined) return JSON.parse(events.outcome())
  } catch (error) {
    // A callback that threw has cancelled the work: that is no news.
    if (thrown === undefined) throw convert(error, signal)
  } finally {
    signal?.removeEventListener('abort', stop)
  }
  throw thrown.error
}

const pathList = (paths) => (Array.isArray(paths) ? paths : [paths]).map(String)

const natives = new WeakMap()

/** A vector field as the native half takes it: its embedder, and the rest as JSON. */
async function vectorField([name, given]) {
  const field = given?.embedder === undefined ? { embedder: given } : given
  const { embedder, ...settings } = known('vectorFields', field, ['embedder', 'metric', 'storage'])
  const loaded = await embedderOf(embedder)
  if (loaded === undefined) throw invalid('vectorFields', `pass an embedder for \`${name}\`, or an object with one`)
  return { embedder: loaded, settings: { name, ...settings } }
}

class Collection {
  #native

  constructor(one) {
    if (!(one instanceof native.NativeCollection)) throw invalid('collection', 'open one with `Collection.open(path)`')
    this.#native = one
    natives.set(this, one)
  }

  static async open(path, options) {
    if (typeof path !== 'string') throw invalid('path', 'name a folder for the index')
    return Collection.#open(path, options)
  }

  static async inMemory(options) {
    return Collection.#open(undefined, options)
  }

  static async #open(path, options) {
    const names = [...openOptions, 'embedder', 'vectorFields', 'signal']
    const { embedder, vectorFields, signal: _, ...settings } = known('options', options, names)
    const signal = signalOf(options)
    const fields = await Promise.all(Object.entries(vectorFields ?? {}).map(vectorField))
    const loaded = await collectionEmbedder(embedder)
    const text = JSON.stringify({ path, ...settings, vectorFields: fields.map((field) => field.settings) })
    const embedders = fields.map((field) => field.embedder)
    return new Collection(await under(signal, (cancel) => native.NativeCollection.open(text, loaded, embedders, cancel)))
  }

  scoped(scope) {
    return new Collection(guarded(() => this.#native.scoped(JSON.stringify(scope))))
  }

  async add(documents, options) {
    const names = ['onProgress', 'chunksPerCommit', 'stopsAtError', 'signal']
    const { onProgress, chunksPerCommit, stopsAtError } = known('options', options, names)
    const settings = JSON.stringify({ chunksPerCommit, stopsAtError })
    const text = JSON.stringify(Array.isArray(documents) ? documents : [documents])
    return withProgress((cancel) => this.#native.add(text, settings, cancel), onProgress, signalOf(options))
  }

  async sync(paths, options) {
    const names = ['onProgress', 'chunksPerCommit', 'removes', 'allowsEmpty', 'signal']
    const { onProgress, signal: _, ...settings } = known('options', options, names)
    const [list, text] = [pathList(paths), JSON.stringify(settings)]
    return withProgress((cancel) => this.#native.sync(list, text, cancel), onProgress, signalOf(options))
  }

  async planSync(paths, options) {
    const { signal: _, ...settings } = known('options', options, ['removes', 'allowsEmpty', 'signal'])
    const [list, text] = [pathList(paths), JSON.stringify(settings)]
    return JSON.parse(await under(signalOf(options), (cancel) => this.#native.planSync(list, text, cancel)))
  }

  async search(text, options) {
    const query = queryText(text, options)
    return JSON.parse(await under(signalOf(options), (cancel) => this.#native.search(query, cancel)))
  }

  async explain(text, options) {
    const query = queryText(text, options)
    return JSON.parse(await under(signalOf(options), (cancel) => this.#native.explain(query, cancel)))
  }

  async delete(ids) {
    const list = (Array.isArray(ids) ? ids : [ids]).map(String)
    return under(undefined, () => this.#native.delete(list))
  }

  async deleteWhere(filter) {
    return under(undefined, () => this.#native.deleteWhere(JSON.stringify(filter)))
  }

  async count(filter, options) {
    const signal = signalOf(known('options', options, ['signal']))
    const text = filter === undefined ? undefined : JSON.stringify(filter)
    return under(signal, (cancel) => this.#native.count(text, cancel))
  }

  async documents(options) {
    const signal = signalOf(known('options', options, ['signal']))
    return JSON.parse(await under(signal, (cancel) => this.#native.documents(cancel)))
  }

  async coverage(documentId, options) {
    const signal = signalOf(known('options', options, ['signal']))
    if (typeof documentId !== 'string') throw invalid('documentId', 'pass the id of a document')
    return JSON.parse(await under(signal, (cancel) => this.#native.coverage(documentId, cancel)))
  }

  async stats(options) {
    const signal = signalOf(known('options', options, ['signal']))
    return JSON.parse(await under(signal, (cancel) => this.#native.stats(cancel)))
  }

  async indexStats(options) {
    const signal = signalOf(known('options', options, ['signal']))
    return JSON.parse(await under(signal, (cancel) => this.#native.indexStats(cancel)))
  }

  async compact() {
    return under(undefined, () => this.#native.compact())
  }

  async verify(options) {
    const signal = signalOf(known('options', options, ['signal']))
    return under(signal, (cancel) => this.#native.verify(cancel))
  }
}

/** The native half of a collection that a caller passed. */
function nativeCollection(collection) {
  const one = natives.get(collection)
  if (one === undefined) throw invalid('collection', 'pass a Collection')
  return one
}

/** A tool that searches a collection: the model reads passages under their labels. */
function retrieverTool(name, collection, options) {
  const one = nativeCollection(collection)
  const settings = JSON.stringify(known('options', options, ['about', 'topK', 'textBytes']))
  return new SearchTool(guarded(() => one.tool(name, settings)))
}

const value = (given) => (given instanceof Date ? { date: given.toISOString() } : given)

/** Which chunks may be found: a typed tree over the facts in `metadata`, as plain data. */
const Filter = Object.freeze({
  eq: (key, one) => ({ eq: { key, value: value(one) } }),
  isIn: (key, values) => ({ in: { key, values: values.map(value) } }),
  range: (key, { min = null, max = null }) => ({ range: { key, min: value(min), max: value(max) } }),
  exists: (key) => ({ exists: { key } }),
  prefix: (key, prefix) => ({ prefix: { key, prefix } }),
  documents: (ids) => ({ documents: { ids } }),
  and: (...filters) => ({ and: filters }),
  or: (...filters) => ({ or: filters }),
  not: (filter) => ({ not: filter }),
})

module.exports = { Collection, Filter, nativeCollection, retrieverTool }
