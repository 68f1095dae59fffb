'use strict'
const native = require('./native.js')
const { guarded, invalid } = require('./errors.js')
const { vendorOptions } = require('./layers.js')
const { ChatModel, nativeModel } = require('./model.js')
const { settings } = require('./settings.js')
const { known } = require('./signal.js')
const { embedderOf } = require('./embedder.js')

const own = new Map()
/** Agents as models, by the name behind `agent/`. */
const agents = new Map()

/** Adds a vendor of the host's own, or takes the place of one: `factory` gets what stands behind `vendor/`. */
function register(vendor, factory) {
  if (typeof vendor !== 'string' || !/^[^/:]+$/.test(vendor)) throw invalid('vendor', 'it is the part of a name before the `/`')
  if (typeof factory !== 'function') throw invalid('factory', 'pass a function that gives a model')
  own.set(vendor, factory)
}

/** Adds a server of one's own that speaks Chat Completions at an address with its `/v1`. */
function registerCompatible(vendor, baseUrl, quirks = {}) {
  guarded(() => native.registerCompatible(String(vendor), String(baseUrl), JSON.stringify(settings('quirks', quirks, Object.keys(quirks)))))
  own.delete(vendor)
}

/** A model by name, `vendor/model`; what the options do not say comes from the environment. */
function model(name, options) {
  if (typeof name !== 'string') throw invalid('model name', 'write it as vendor/model, for example anthropic/claude-sonnet-5')
  const [, vendor, rest] = /^\s*([^/:]+)[/:](.+)$/s.exec(name) ?? []
  const given = vendorOptions(options, ['isBare'])
  if (vendor === 'agent' && agents.has(rest.trim())) {
    if (given.some((part) => part !== undefined)) throw invalid('options', 'an agent has its own model; give that what it needs')
    return agents.get(rest.trim())
  }
  if (own.has(vendor)) {
    if (given.some((part) => part !== undefined)) {
      throw invalid('options', `\`${vendor}\` is a vendor of this program; give its factory what it needs`)
    }
    const made = own.get(vendor)(rest.trim())
    nativeModel(made) // tells what is no model
    return made
  }
  return new ChatModel(guarded(() => native.Model.named(name, ...given)))
}

class Anthropic extends ChatModel {
  constructor(name, options) {
    super(guarded(() => native.Model.named(`anthropic/${name}`, ...vendorOptions(options, ['isBare']))))
  }
}

class OpenAi extends ChatModel {
  constructor(name, options) {
    const { organization, project, headers, ...rest } = options ?? {}
    const billed = { 'openai-organization': organization, 'openai-project': project }
    const told = Object.entries(billed).filter(([, id]) => id !== undefined)
    const given = told.length > 0 ? { ...rest, headers: { ...headers, ...Object.fromEntries(told) } } : options
    super(guarded(() => native.Model.named(`openai/${name}`, ...vendorOptions(given, ['isBare']))))
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

module.exports = { Anthropic, Extractive, OpenAi, Scripted, agents, model, register, registerCompatible }
