'use strict'
const native = require('./native.js')
const { guarded, invalid } = require('./errors.js')
const { known, signalOf, under } = require('./signal.js')

const brand = Symbol.for('stepwell.Embedder')

/** all-MiniLM-L6-v2 in process. It is loaded at first use, once per process, off this thread. */
class MiniLm {
  #threads
  #native

  constructor(options) {
    this.#threads = known('options', options, ['threads']).threads
    Object.defineProperty(this, brand, { value: true })
  }

  /** The native half; for this package alone. */
  load() {
    return (this.#native ??= native.Embedder.minilm(this.#threads))
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

module.exports = { MiniLm, collectionEmbedder, embedderOf }
