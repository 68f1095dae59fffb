'use strict'
const native = require('./native.js')
const { nativeCollection } = require('./collection.js')
const { classes, guarded, invalid, thrownByModels } = require('./errors.js')
const { ChatModel, nativeModel } = require('./model.js')
const { agents } = require('./models.js')
const { known, signalOf, under } = require('./signal.js')
const { EventStream } = require('./stream.js')
const { SearchTool, declaration, dispatcher, isTool, jsonSchema, validated } = require('./tool.js')

/** What a paused run goes on with, by its result; and whose run it is. */
const paused = new WeakMap()

/** A run as it goes: events, and in the end its result. */
class RunStream extends EventStream {
  #finish

  constructor(native, signal, thrown, finish) {
    super(native, signal, thrown)
    this.#finish = finish
  }

  /** The result; reads what is left of the stream. */
  async result() {
    const result = await this.outcome()
    return result === undefined ? undefined : this.#finish(result)
  }
}

const stores = new WeakMap()

/** Where the journals of runs are kept. */
class RunStore {
  constructor(native) {
    stores.set(this, native)
  }

  static memory() {
    return new RunStore(new native.RunStore())
  }

  static sqlite(path) {
    if (typeof path !== 'string') throw invalid('path', 'pass the path of a file')
    return new RunStore(guarded(() => new native.RunStore(path)))
  }
}

function nativeStore(store) {
  const one = stores.get(store)
  if (one === undefined) throw invalid('store', 'pass a RunStore')
  return one
}

const approval = (question, decision, rest) => {
  const digest = question?.payload?.digest
  if (typeof digest !== 'string') throw invalid('approval', `the question \`${question?.id}\` is not about a tool call`)
  return { decision, digest, ...rest }
}

/** A person's word on a tool call, bound to the exact arguments that were shown. */
const Approval = Object.freeze({
  allow: (question) => approval(question, 'allow'),
  edit: (question, args) => approval(question, 'edit', { arguments: args }),
  deny: (question, reason) => approval(question, 'deny', { reason }),
})

/** An agent as a tool of another; made by `agent.tool(…)`. */
class AgentTool {
  constructor(agent, options, spec) {
    Object.assign(this, spec)
    Object.defineProperty(this, 'agent', { value: agent })
    Object.defineProperty(this, 'options', { value: options })
  }
}

function inputText(input) {
  if (input === undefined || input === null) throw invalid('input', 'pass a string, a message or messages')
  return JSON.stringify(input)
}

/** An answer that keeps to the JSON Schema and not to what the Standard Schema checks besides. */
function misfit(faults, answer) {
  return new classes.SchemaMismatchError(`the answer does not fit: ${faults.join('; ')}`, { code: 'schema_mismatch', partial: answer })
}

const settingNames = [
  'name', 'instructions', 'template', 'variables', 'tools', 'output', 'outputRetries', 'context', 'contextOptions', 'contextPolicies',
  'request', 'policy', 'limits', 'budget', 'scope', 'store', 'isSynced',
]

/** Makes an agent a model, `agent/<name>`: every request is a run. */
let registerAgent

class Agent {
  #native
  #tools = []
  #shape

  constructor(model, options) {
    const { tools = [], context, store, output, contextPolicies = [], ...settings } = known('options', options, settingNames)
    if (!Array.isArray(tools)) throw invalid('tools', 'pass an array of tools')
    if (!Array.isArray(contextPolicies)) throw invalid('contextPolicies', 'pass an array of policies')
    const models = []
    settings.contextPolicies = contextPolicies.map((policy) =>
      policy?.type === 'summarise' ? { ...policy, model: models.push(nativeModel(policy.model ?? model)) - 1 } : policy,
    )
    if (output !== undefined) {
      settings.output = jsonSchema('output', output)
      if (output['~standard'] !== undefined) this.#shape = output
    }
    guarded(() => {
      this.#native = new native.NativeAgent(nativeModel(model), JSON.stringify(settings))
      for (const one of models) this.#native.addModel(one)
      if (context !== undefined) this.#native.setContext(nativeCollection(context))
      if (store !== undefined) this.#native.setStore(nativeStore(store))
      for (const one of tools) {
        if (one instanceof SearchTool) this.#native.addSearch(one.native)
        else if (one instanceof AgentTool) {
          this.#native.addAgent(one.agent.#native, one.options)
          this.#tools.push(...one.agent.#tools)
        } else if (isTool(one)) {
          this.#native.addTool(declaration(one))
          this.#tools.push(one)
        } else throw invalid('tools', 'pass what `tool(…)`, `retrieverTool(…)` or `agent.tool(…)` gives')
      }
      this.#native.check()
    })
  }

  /** The result as the caller sees it: in its shape, and kept where it paused. */
  async #finished(result, ended) {
    if (ended.isPaused) paused.set(result, { ended, agent: this })
    if (this.#shape !== undefined && result.output !== null) {
      result.output = await validated(this.#shape, result.output, (faults) => misfit(faults, result.answer))
    }
    return result
  }

  /** Everything a run needs is made inside the caller's async context, so tools see its `AsyncLocalStorage`. */
  async #run(input, settings, signal, ended = new native.Ended()) {
    const { dispatch, thrown } = dispatcher(this.#tools)
    const text = JSON.stringify(settings)
    const run = (cancel) => this.#native.run(input, text, dispatch, cancel ?? new native.Cancel(), ended)
    return this.#finished(JSON.parse(await under(signal, run, thrown)), ended)
  }

  async run(input, options) {
    const { signal: _, ...settings } = known('options', options, ['signal', 'runId', 'scope', 'variables'])
    return this.#run(inputText(input), settings, signalOf(options))
  }

  stream(input, options) {
    const { signal: _, ...settings } = known('options', options, ['signal', 'runId', 'scope', 'variables'])
    const signal = signalOf(options)
    const [text, given] = [inputText(input), JSON.stringify(settings)]
    const { dispatch, thrown } = dispatcher(this.#tools)
    const ended = new native.Ended()
    const stream = guarded(() => this.#native.stream(text, given, dispatch, ended))
    return new RunStream(stream, signal, thrown, (result) => this.#finished(result, ended))
  }

  async resume(runId, options) {
    const { signal: _, ...settings } = known('options', options, ['signal', 'scope', 'answers'])
    if (typeof runId !== 'string') throw invalid('runId', 'pass the id of a run')
    return this.#run('null', { ...settings, resume: runId }, signalOf(options))
  }

  async goOn(result, options) {
    const { signal: _, ...settings } = known('options', options, ['signal', 'answers'])
    const waiting = paused.get(result)
    if (waiting === undefined) {
      throw invalid('result', 'the run is not paused in this process; a run that was kept in a store goes on with `resume`')
    }
    if (waiting.agent !== this) throw invalid('result', "the run is another agent's: let it go on with the agent that began it")
    if (!waiting.ended.isPaused) throw invalid('result', 'the run has gone on already; use the result that came of it')
    return this.#run('null', settings, signalOf(options), waiting.ended)
  }

  tool(name, description, options) {
    const given = known('options', options, ['effect', 'risk', 'timeoutMs', 'parallel', 'retries'])
    const text = JSON.stringify({ name, description, ...given })
    return new AgentTool(this, text, JSON.parse(guarded(() => this.#native.toolSpec(text))))
  }

  static {
    // As a model its tools have the async context of this call: no run of its own begins in JavaScript.
    registerAgent = (name, agent) => {
      if (typeof name !== 'string') throw invalid('agent name', 'pass a string')
      if (agent === null || typeof agent !== 'object' || !(#native in agent)) throw invalid('agent', 'pass an Agent')
      const { dispatch } = dispatcher(agent.#tools, thrownByModels)
      agents.set(name, new ChatModel(guarded(() => agent.#native.asModel(name, dispatch))))
    }
  }
}

module.exports = { Agent, Approval, RunStore, RunStream, registerAgent }
