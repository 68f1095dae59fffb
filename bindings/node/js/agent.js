'use strict'
const native = require('./native.js')
const { guarded, invalid } = require('./errors.js')
const { nativeModel } = require('./model.js')
const { known, signalOf, under } = require('./signal.js')
const { EventStream } = require('./stream.js')
const { SearchTool, declaration, dispatcher, isTool } = require('./tool.js')

/** A run as it goes: events, and in the end its result. */
class RunStream extends EventStream {
  /** The result; reads what is left of the stream. */
  result() {
    return this.outcome()
  }
}

function inputText(input) {
  if (input === undefined || input === null) throw invalid('input', 'pass a string, a message or messages')
  return JSON.stringify(input)
}

class Agent {
  #native
  #tools = []

  constructor(model, options) {
    const names = ['name', 'instructions', 'tools', 'request', 'policy', 'limits', 'budget', 'scope']
    const { tools = [], ...settings } = known('options', options, names)
    if (!Array.isArray(tools)) throw invalid('tools', 'pass an array of tools')
    guarded(() => {
      this.#native = new native.NativeAgent(nativeModel(model), JSON.stringify(settings))
      for (const one of tools) {
        if (one instanceof SearchTool) this.#native.addSearch(one.native)
        else if (isTool(one)) {
          this.#native.addTool(declaration(one))
          this.#tools.push(one)
        } else throw invalid('tools', 'pass what `tool(…)` or `retrieverTool(…)` gives')
      }
      this.#native.check()
    })
  }

  /** The result. Everything a run needs is made inside the caller's async context, so tools see its `AsyncLocalStorage`. */
  async run(input, options) {
    const { signal: _, ...settings } = known('options', options, ['signal', 'runId', 'scope'])
    const [text, given] = [inputText(input), JSON.stringify(settings)]
    const { dispatch, thrown } = dispatcher(this.#tools)
    const run = (cancel) => this.#native.run(text, given, dispatch, cancel ?? new native.Cancel())
    return JSON.parse(await under(signalOf(options), run, thrown))
  }

  stream(input, options) {
    const { signal: _, ...settings } = known('options', options, ['signal', 'runId', 'scope'])
    const signal = signalOf(options)
    const [text, given] = [inputText(input), JSON.stringify(settings)]
    const { dispatch, thrown } = dispatcher(this.#tools)
    return new RunStream(guarded(() => this.#native.stream(text, given, dispatch)), signal, thrown)
  }
}

module.exports = { Agent, RunStream }
