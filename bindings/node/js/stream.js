'use strict'
const { convert } = require('./errors.js')

const done = () => ({ value: undefined, done: true })

/**
 * Flattens `take()`: one crossing per batch, one promise per dry spell, `next` answers from the batch without either.
 * Leaving a `for await` calls `return`, which stops the engine.
 */
class EventStream {
  #native
  #signal
  #thrown
  #stop
  #batch = []
  #at = 0
  #isDone = false
  #failure

  constructor(native, signal, thrown) {
    this.#native = native
    this.#signal = signal
    this.#thrown = thrown
    if (signal) signal.addEventListener('abort', (this.#stop = () => native.close()), { once: true })
  }

  [Symbol.asyncIterator]() {
    return this
  }

  next() {
    if (this.#at < this.#batch.length && !this.#signal?.aborted) {
      return Promise.resolve({ value: this.#batch[this.#at++], done: false })
    }
    return this.#more()
  }

  async #more() {
    const ready = await this.#ready('take')
    // Another `next` may have brought a batch meanwhile: what it has not handed out comes first.
    if (ready !== null) this.#batch = [...this.#batch.slice(this.#at), ...JSON.parse(ready)]
    else if (this.#at >= this.#batch.length) return done()
    else this.#batch = this.#batch.slice(this.#at)
    this.#at = 1
    return { value: this.#batch[0], done: false }
  }

  /** The next text that a native `take…` gives; null at the end. */
  async #ready(take) {
    while (!this.#isDone) {
      if (this.#signal?.aborted) this.#fail(this.#signal.reason)
      let ready
      try {
        ready = this.#native[take]()
      } catch (error) {
        this.#fail(convert(error, this.#signal, this.#thrown))
      }
      if (ready === null) this.#end()
      else if (ready.length > 0) return ready
      else await this.#native.wait()
    }
    return null
  }

  /** The words alone, in pieces that are as long as the reader is slow. Leaving the loop stops the engine. */
  async *text() {
    try {
      const rest = this.#batch.slice(this.#at)
      this.#batch = []
      this.#at = 0
      const words = rest.map((event) => (event.type === 'text_delta' ? event.text : '')).join('')
      if (words) yield words
      for (let piece; (piece = await this.#ready('takeWords')) !== null; ) yield piece
    } finally {
      await this.return()
    }
  }

  #fail(error) {
    this.#failure = { error }
    this.#end()
    this.#native.close()
    throw error
  }

  #end() {
    this.#isDone = true
    if (this.#stop) this.#signal.removeEventListener('abort', this.#stop)
  }

  async return() {
    this.#end()
    this.#batch = []
    this.#at = 0
    this.#native.close()
    return done()
  }

  async [Symbol.asyncDispose ?? Symbol.for('nodejs.asyncDispose')]() {
    await this.return()
  }

  toReadableStream() {
    return ReadableStream.from(this)
  }

  /** What the engine says in the end, after what is left of the stream; `undefined` when it was left before. */
  async outcome() {
    while (!(await this.next()).done);
    if (this.#failure) throw this.#failure.error
    return JSON.parse(this.#native.outcome() ?? 'null') ?? undefined
  }
}

module.exports = { EventStream }
