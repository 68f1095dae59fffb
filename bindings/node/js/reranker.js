'use strict'
const native = require('./native.js')
const { guarded, invalid } = require('./errors.js')
const { vendorOptions } = require('./layers.js')
const { known, signalOf, under } = require('./signal.js')

const natives = new WeakMap()

/** Puts hits in a better order. */
class Reranker {
  constructor(loaded) {
    natives.set(this, loaded)
  }

  async rerank(question, hits, options) {
    const { topK = hits?.length } = known('options', options, ['topK', 'signal'])
    if (!Array.isArray(hits)) throw invalid('hits', 'pass an array of hits or of texts')
    const signal = signalOf(options)
    const text = JSON.stringify(hits.map((hit, place) => (typeof hit === 'string' ? textHit(hit, place) : hit)))
    return JSON.parse(await under(signal, (cancel) => guarded(() => natives.get(this).rerank(String(question), text, topK, cancel))))
  }
}

/** A text stands for a hit whose document's id is its place in the list. */
function textHit(text, place) {
  const chunk = { id: `${place}`, documentId: `${place}`, number: 0, text, span: { start: 0, end: Buffer.byteLength(text) } }
  return { chunk, score: 0, explanation: { stage: 'given' } }
}

/** The reranker of a vendor by name. */
function reranker(name, options) {
  return new Reranker(guarded(() => native.Reranker.named(String(name), ...vendorOptions(options))))
}

module.exports = { Reranker, reranker }
