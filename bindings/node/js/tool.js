'use strict'
const native = require('./native.js')
const { Thrown, ToolError, guarded, invalid } = require('./errors.js')
const { known } = require('./signal.js')

const brand = Symbol.for('stepwell.Tool')
/** Tools so far: the number of one is its key, for agents of one run may have tools of one name. */
let keys = 0

/** JSON Schema of a Standard Schema, or the schema itself. */
function jsonSchema(what, schema) {
  const standard = schema?.['~standard']
  if (standard === undefined) {
    if (schema === null || typeof schema !== 'object') throw invalid(what, 'pass a JSON Schema or a Standard Schema')
    return schema
  }
  if (typeof standard.jsonSchema?.input !== 'function') {
    throw invalid(what, `this ${standard.vendor} schema gives no JSON Schema; use a version that does (zod 4), or pass a JSON Schema`)
  }
  const { $schema, ...parameters } = standard.jsonSchema.input({ target: 'draft-2020-12' })
  return parameters
}

/** What a Standard Schema makes of a value: defaults filled in, transforms done. `refused` makes the error of the faults. */
async function validated(schema, input, refused) {
  const result = await schema['~standard'].validate(input)
  if (result.issues === undefined) return result.value
  const faults = result.issues.map(({ message, path }) => {
    const place = path?.map((step) => (typeof step === 'object' ? step.key : step)).join('.')
    return place ? `${place}: ${message}` : message
  })
  throw refused(faults)
}

/** The model is told, and mends its call. */
const unfit = (faults) => ToolError.retry(`the arguments do not fit: ${faults.join('; ')}`)

class Tool {
  constructor(options) {
    const { name, description = '', input, run, effect, risk, timeoutMs, parallel, retries } = known('tool', options, [
      'name', 'description', 'input', 'run', 'effect', 'risk', 'timeoutMs', 'parallel', 'retries',
    ])
    if (typeof name !== 'string') throw invalid('tool', 'give it a `name`')
    if (typeof run !== 'function') throw invalid(`tool \`${name}\``, 'give it a function `run`')
    this.name = name
    this.description = description
    this.parameters = jsonSchema(`input of tool \`${name}\``, input)
    this.options = { effect, risk, timeoutMs, parallel, retries }
    const isStandard = input['~standard'] !== undefined
    Object.defineProperty(this, 'run', {
      value: isStandard ? async (given, context) => run(await validated(input, given, unfit), context) : run,
    })
    Object.defineProperty(this, 'key', { value: ++keys })
    Object.defineProperty(this, brand, { value: true })
    guarded(() => native.checkTool(declaration(this)))
  }

  /** What a model sees of it: a tool may stand in a request's `tools`. */
  toJSON() {
    const { name, description, parameters } = this
    return { name, description, parameters }
  }
}

function tool(options) {
  return new Tool(options)
}

const isTool = (value) => value?.[brand] === true

/** A search in a collection, as a tool. */
class SearchTool {
  constructor(native) {
    Object.assign(this, JSON.parse(native.spec))
    Object.defineProperty(this, 'native', { value: native })
  }
}
const declaration = (one) => JSON.stringify({ key: one.key, ...one.toJSON(), ...one.options })

const ok = (value) => JSON.stringify({ ok: value === undefined ? null : value })

function messageOf(error) {
  try {
    return String(error?.message ?? error)
  } catch {
    return 'something that has no words'
  }
}

/**
 * The function that the engine calls for the tools of one run: with a call (answers with JSON, or a promise of it)
 * or with the number of a call to cancel. What user code throws waits in `thrown` until the run rejects with it.
 */
function dispatcher(tools, thrown = new Thrown()) {
  const byKey = new Map(tools.map((one) => [one.key, one]))
  const running = new Map()
  const refused = (error) => {
    if (!(error instanceof ToolError)) return JSON.stringify({ thrown: [thrown.add(error), messageOf(error)] })
    return JSON.stringify({ [error.door === 'retry' ? 'retry' : 'failed']: error.message })
  }
  const dispatch = (text) => {
    const message = JSON.parse(text)
    if (message.cancel !== undefined) {
      running.get(message.cancel)?.abort(new DOMException('the run stopped', 'AbortError'))
      running.delete(message.cancel)
      return ''
    }
    const { call, tool: key, input, ...facts } = message
    const controller = new AbortController()
    running.set(call, controller)
    const context = {
      ...facts,
      signal: controller.signal,
      emit: (progress) => native.toolProgress(call, JSON.stringify(progress === undefined ? null : progress)),
    }
    let value
    try {
      value = byKey.get(key).run(input, context)
      if (typeof value?.then !== 'function') {
        running.delete(call)
        return ok(value)
      }
    } catch (error) {
      running.delete(call)
      return refused(error)
    }
    // A promise of our own: what user code returns may be any thenable.
    return Promise.resolve(value).then(ok).catch(refused).finally(() => running.delete(call))
  }
  return { dispatch, thrown }
}

module.exports = { SearchTool, Tool, declaration, dispatcher, isTool, jsonSchema, tool, validated }
