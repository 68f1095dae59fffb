'use strict'
const { guarded, invalid } = require('./errors.js')
const { known, signalOf, under } = require('./signal.js')
const { EventStream } = require('./stream.js')
const { jsonSchema } = require('./tool.js')

/** A request as JSON: a string, messages, or an object with options. */
function requestText(request) {
  if (request === undefined || request === null) throw invalid('request', 'pass a string, messages, or { messages, … }')
  const format = request.responseFormat
  if (format !== null && typeof format === 'object') {
    request = { ...request, responseFormat: { ...format, schema: jsonSchema('responseFormat', format.schema) } }
  }
  return JSON.stringify(request)
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

  async countTokens(request, options) {
    const signal = signalOf(known('options', options, ['signal']))
    return JSON.parse(await under(signal, (cancel) => nativeModel(this).countTokens(requestText(request), cancel)))
  }
}
module.exports = { ChatModel, ChatStream, nativeModel }
