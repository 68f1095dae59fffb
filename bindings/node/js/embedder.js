'use strict'
const native = require('./native.js')
const { guarded, invalid } = require('./errors.js')
const { vendorOptions } = require('./layers.js')
const { known, signalOf, under } = require('./signal.js')

const brand = Symbol.for('stepwell.Embedder')

/** Text → vector. It is loaded at first use, off this thread. */
class Embedder {
  #make
  #native

  constructor(make) {
    this.#make = make
    Object.defineProperty(this, brand, { value: true })
  }

  /** The native half; for this package alone. */
  load() {
    return (this.#native ??= this.#make())
  }

  async info() {
    return JSON.parse((await this.load()).info)
  }

  async embed(texts, options) {
    const { kind = 'document' } = known('options', options, ['kind', 'signal'])
    if (!Array.isArray(texts)) throw invalid('texts', 'pass an array of strings')
    const signal = signalOf(options)
    const embedder = await this.load()
    if (texts.length === 0) return []
    const values = await under(signal, (cancel) => guarded(() => embedder.embed(texts, kind, cancel)))
    const dimension = values.length / texts.length
    return texts.map((_, row) => values.subarray(row * dimension, (row + 1) * dimension))
  }
}

/** all-MiniLM-L6-v2 in process. */
class MiniLm extends Embedder {
  constructor(options) {
    const { threads } = known('options', options, ['threads'])
    super(() => native.Embedder.minilm(threads))
  }
}

/** The embedder of a vendor by name. */
async function embedder(name, options) {
  const given = vendorOptions(options, ['dimension', 'width'])
  const loaded = await under(undefined, () => guarded(() => native.Embedder.named(String(name), ...given)))
  return new Embedder(() => Promise.resolve(loaded))
}

/** The native embedder of one that a caller passed. */
async function embedderOf(embedder) {
  if (embedder === undefined || embedder === null) return undefined
  if (embedder[brand] !== true) throw invalid('embedder', 'pass an embedder, such as `new MiniLm()`')
  return embedder.load()
}

let usual

/** The native embedder of a collection: MiniLm unless the caller passed another, or `null` for words alone. */
async function collectionEmbedder(embedder) {
  return embedderOf(embedder === undefined ? (usual ??= new MiniLm()) : embedder)
}

module.exports = { Embedder, MiniLm, collectionEmbedder, embedder, embedderOf }
