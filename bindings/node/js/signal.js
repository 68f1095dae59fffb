'use strict'
const native = require('./native.js')
const { convert, invalid } = require('./errors.js')

/** The `signal` among options, checked; every other option is the engine's or a typing error. */
function signalOf(options) {
  const signal = options?.signal
  if (signal !== undefined && typeof signal?.addEventListener !== 'function') throw invalid('signal', 'pass an AbortSignal')
  signal?.throwIfAborted()
  return signal
}

/** Refuses options that nobody reads. */
function known(what, options, names) {
  if (options === undefined) return {}
  if (options === null || typeof options !== 'object') throw invalid(what, 'pass an object')
  for (const name of Object.keys(options)) {
    if (!names.includes(name)) throw invalid(what, `there is no option \`${name}\`; there are ${names.join(', ')}`)
  }
  return options
}

/**
 * Runs a native call under a signal: an aborted one rejects with `signal.reason` itself, and its listener never
 * outlives the call.
 */
async function under(signal, run, thrown) {
  if (signal === undefined) {
    try {
      return await run(undefined)
    } catch (error) {
      throw convert(error, undefined, thrown)
    }
  }
  const cancel = new native.Cancel()
  const stop = () => cancel.cancel()
  signal.addEventListener('abort', stop, { once: true })
  try {
    return await run(cancel)
  } catch (error) {
    throw convert(error, signal, thrown)
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

module.exports = { known, signalOf, under }
