'use strict'
const { classes, guarded, invalid } = require('./errors.js')
const { Breaker, Budget, Cache, RateLimiter, nativeOf } = require('./layers.js')
const { settings } = require('./settings.js')
const { known, signalOf, under } = require('./signal.js')
const { EventStream } = require('./stream.js')
const { jsonSchema, validated } = require('./tool.js')

/** A request as JSON: a string, messages, or an object with options. */
function requestText(request) {
  if (request === undefined || request === null) throw invalid('request', 'pass a string, messages, or { messages, … }')
  const format = request.responseFormat
  if (format !== null && typeof format === 'object') {
    request = { ...request, responseFormat: { ...format, schema: jsonSchema('responseFormat', format.schema) } }
  }
  return JSON.stringify(request)
}

/** The request, asking for an answer of this shape. */
function shaped(shape, request) {
  const isPlain = typeof request === 'string' || Array.isArray(request) || request?.role !== undefined
  const given = isPlain ? { messages: request } : request
  if (given?.responseFormat !== undefined) throw invalid('responseFormat', 'the shape that is asked for says it already')
  return { ...given, responseFormat: { name: 'answer', schema: shape } }
}

/** An answer that keeps to the JSON Schema and not to what the Standard Schema checks besides. */
function misfit(faults, { response }) {
  const message = `the answer of ${response.provider} does not fit: ${faults.join('; ')}; the answer is attached`
  return new classes.SchemaMismatchError(message, { code: 'schema_mismatch', partial: response })
}

/** An answer as it comes: events, and in the end the whole answer. */
class ChatStream extends EventStream {
  /** The whole answer; reads what is left of the stream. */
  response() {
    return this.outcome()
  }
}

const natives = new WeakMap()

/** The native half of a model that a caller passed. */
function nativeModel(model) {
  const native = natives.get(model)
  if (native === undefined) throw invalid('model', 'pass a model, such as `model("anthropic/claude-sonnet-5")`')
  return native
}

class ChatModel {
  constructor(native) {
    natives.set(this, native)
  }

  get info() {
    return JSON.parse(guarded(() => nativeModel(this).info))
  }

  async chat(request, options) {
    const signal = signalOf(known('options', options, ['signal']))
    return JSON.parse(await under(signal, (cancel) => nativeModel(this).chat(requestText(request), cancel)))
  }

  stream(request, options) {
    const signal = signalOf(known('options', options, ['signal']))
    return new ChatStream(guarded(() => nativeModel(this).stream(requestText(request))), signal)
  }

  async chatAs(shape, request, options) {
    const signal = signalOf(known('options', options, ['signal']))
    const text = requestText(shaped(shape, request))
    const answer = JSON.parse(await under(signal, (cancel) => nativeModel(this).chatValue(text, cancel)))
    if (shape['~standard'] !== undefined) answer.value = await validated(shape, answer.value, (faults) => misfit(faults, answer))
    return answer
  }

  async countTokens(request, options) {
    const signal = signalOf(known('options', options, ['signal']))
    return JSON.parse(await under(signal, (cancel) => nativeModel(this).countTokens(requestText(request), cancel)))
  }

  // Layers: each gives a model around this one, and the one put on last is the outermost.

  withRetry(options) {
    const names = ['maxRetries', 'maxMalformedRetries', 'firstDelayMs', 'maxDelayMs', 'maxServerDelayMs', 'deadlineMs', 'seed']
    return around(this, (model) => model.withRetry(JSON.stringify(settings('options', options, names))))
  }

  withTimeouts(options) {
    const names = ['firstEventMs', 'idleMs', 'pingsCount', 'totalMs']
    return around(this, (model) => model.withTimeouts(JSON.stringify(settings('options', options, names))))
  }

  withRateLimit(limiter) {
    return around(this, (model) => model.withRateLimit(nativeOf('limiter', RateLimiter, limiter)))
  }

  withBreaker(breaker) {
    return around(this, (model) => model.withBreaker(nativeOf('breaker', Breaker, breaker)))
  }

  withFallback(others, options) {
    const natives = (Array.isArray(others) ? others : [others]).map(nativeModel)
    const given = settings('options', options, ['reasons', 'patienceMs', 'afterOutput'])
    return around(this, (model) => model.withFallback(natives, JSON.stringify(given)))
  }

  withCache(cache, options) {
    const { tenant, ...rest } = known('options', options, ['tenant', 'timeToLiveMs', 'maxBytes', 'sharesCalls', 'maxWaitMs'])
    const given = settings('options', rest, ['timeToLiveMs', 'maxBytes', 'sharesCalls', 'maxWaitMs'])
    return around(this, (model) => model.withCache(nativeOf('cache', Cache, cache), tenant, JSON.stringify(given)))
  }

  withBudget(budget) {
    return around(this, (model) => model.withBudget(nativeOf('budget', Budget, budget)))
  }
}

function around(model, layer) {
  return new ChatModel(guarded(() => layer(nativeModel(model))))
}
module.exports = { ChatModel, ChatStream, nativeModel }
