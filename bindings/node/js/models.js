'use strict'
const native = require('./native.js')
const { guarded, invalid } = require('./errors.js')
const { ChatModel } = require('./model.js')
const { known } = require('./signal.js')
const { embedderOf } = require('./embedder.js')

/** A model by name, `vendor/model`, its key read from the environment. */
function model(name) {
  if (typeof name !== 'string') throw invalid('model name', 'write it as vendor/model, for example anthropic/claude-sonnet-5')
  return new ChatModel(guarded(() => native.Model.named(name)))
}

class Anthropic extends ChatModel {
  constructor(name, options) {
    super(guarded(() => native.Model.anthropic(String(name), JSON.stringify(known('options', options, ['apiKey', 'baseUrl'])))))
  }
}

class OpenAi extends ChatModel {
  constructor(name, options) {
    const given = known('options', options, ['apiKey', 'baseUrl', 'organization', 'project'])
    super(guarded(() => native.Model.openai(String(name), JSON.stringify(given))))
  }
}

/** A model that plays a script: each step answers one request. */
class Scripted extends ChatModel {
  #script

  constructor(options) {
    const script = guarded(() => new native.Script(JSON.stringify(known('options', options, ['name', 'deltaChars', 'paceMs']))))
    super(script.model())
    this.#script = script
  }

  say(text) {
    this.#script.say(String(text))
    return this
  }

  call(tool, input = {}) {
    return this.calls([[tool, input]])
  }

  calls(calls) {
    guarded(() => this.#script.calls(JSON.stringify(calls)))
    return this
  }

  fail(code, options) {
    const { retryAfter, after } = known('options', options, ['retryAfter', 'after'])
    guarded(() => this.#script.fail(code, retryAfter, after))
    return this
  }

  breakOff(text) {
    this.#script.breakOff(String(text))
    return this
  }

  forever(text) {
    this.#script.forever(String(text))
    return this
  }

  get remaining() {
    return this.#script.remaining
  }

  get requests() {
    return JSON.parse(guarded(() => this.#script.requests))
  }
}

/** Answers offline with the documents' own sentences and their citations; `create` loads its embedder. */
class Extractive extends ChatModel {
  static async create(options) {
    const { embedder } = known('options', options, ['embedder'])
    return new Extractive(native.Model.extractive(await embedderOf(embedder)))
  }
}

module.exports = { Anthropic, Extractive, OpenAi, Scripted, model }
