'use strict'
// One class per `code`; what the engine throws becomes an instance of it, what user code threw stays the same object.

/** Facts that an error may carry besides its code; see `index.d.ts`. */
class StepwellError extends Error {
  constructor(message, { code = 'internal', retryable = false, causes = [], ...facts } = {}) {
    super(message, causes.length > 0 ? { cause: chain(causes) } : undefined)
    this.code = code
    this.retryable = retryable
    Object.assign(this, facts)
  }
}
named(StepwellError, 'StepwellError')

// On the prototype, so that an error prints under its class and `name` is no own property.
function named(type, name) {
  Object.defineProperty(type, 'name', { value: name })
  Object.defineProperty(type.prototype, 'name', { value: name, configurable: true, writable: true })
  return type
}

function chain([message, ...rest]) {
  return new Error(message, rest.length > 0 ? { cause: chain(rest) } : undefined)
}

const codes = [
  'invalid_input', 'not_found', 'unsupported', 'missing_key', 'unauthorized', 'rejected', 'quota_exceeded',
  'rate_limited', 'overloaded', 'transport', 'stream_truncated', 'invalid_response', 'schema_mismatch',
  'timeout', 'cancelled', 'interrupted', 'tool_failed', 'budget_exceeded', 'limit_exceeded', 'step_limit', 'invalid_graph', 'invalid_update', 'node_failed',
  'conflict', 'locked', 'foreign', 'damaged', 'unknown_version', 'embedder_mismatch', 'pin_mismatch', 'unreadable', 'io', 'disk_full',
  'store', 'host', 'internal',
]
/** A vendor refused or failed. */
class ProviderError extends StepwellError {}
named(ProviderError, 'ProviderError')
const vendorCodes = ['unauthorized', 'rejected', 'quota_exceeded', 'rate_limited', 'overloaded']

// A run that waits; `InterruptedError` would be Python's word for a system call.
const className = (code) => code === 'interrupted' ? 'InterruptedRunError' : code.replace(/(?:^|_)([a-z])/g, (_, letter) => letter.toUpperCase()) + 'Error'
const base = (code) => (vendorCodes.includes(code) ? ProviderError : StepwellError)
const byCode = new Map(codes.map((code) => [code, named(class extends base(code) {}, className(code))]))
const classes = Object.fromEntries([...byCode.values()].map((type) => [type.name, type]))

/** A tool's own way to fail: the model is told, and mends its call (`retry`) or moves on (`failed`). */
class ToolError extends Error {
  constructor(message, { door = 'failed', cause } = {}) {
    super(message, cause === undefined ? undefined : { cause })
    this.door = door
  }
  static retry(message, options) {
    return new ToolError(message, { ...options, door: 'retry' })
  }
  static failed(message, options) {
    return new ToolError(message, { ...options, door: 'failed' })
  }
}
named(ToolError, 'ToolError')

/** What user code threw and nobody has caught yet, by number; the newest of what models and runs left behind. */
class Thrown {
  static #last = 0
  #most
  #values = new Map()

  constructor(most = Infinity) {
    this.#most = most
  }

  add(value) {
    if (this.#values.size >= this.#most) this.#values.delete(this.#values.keys().next().value)
    this.#values.set(++Thrown.#last, value)
    return Thrown.#last
  }

  has(number) {
    return this.#values.has(number)
  }

  get(number) {
    return this.#values.get(number)
  }
}
/** That of tools whose agent is a model: any call may lead to them. */
const thrownByModels = new Thrown(256)

/** What came out of native code, as the caller is to see it; `thrown` holds what user code threw in this run. */
function convert(error, signal, thrown) {
  const text = error instanceof Error ? error.message : undefined
  if (typeof text !== 'string' || text.charCodeAt(0) !== 1) return error
  const { message, ...facts } = JSON.parse(text.slice(1))
  if (facts.thrown !== undefined) return (thrown?.has(facts.thrown) ? thrown : thrownByModels).get(facts.thrown)
  if (facts.code === 'cancelled' && signal?.aborted) return signal.reason
  return new (byCode.get(facts.code) ?? StepwellError)(message, facts)
}

/** Runs native code that answers at once. */
function guarded(run) {
  try {
    return run()
  } catch (error) {
    throw convert(error)
  }
}

function invalid(what, message) {
  return new classes.InvalidInputError(`${what}: ${message}`, { code: 'invalid_input' })
}

module.exports = { ProviderError, StepwellError, Thrown, ToolError, classes, convert, guarded, invalid, thrownByModels }
