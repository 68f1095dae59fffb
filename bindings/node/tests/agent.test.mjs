// Tools and agents.
import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import test from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Agent, InvalidInputError, Scripted, StepLimitError, StepwellError, ToolError, tool } from 'stepwell'
import { z } from 'zod'

const anything = { type: 'object' }
/** An agent that calls one tool with each of these inputs, then says `done`. */
function calling(run, inputs = [{}], options = {}) {
  const script = new Scripted()
  for (const input of inputs) script.call('t', input)
  script.say('done')
  return { agent: new Agent(script, { tools: [tool({ name: 't', input: anything, run, ...options.tool })], ...options.agent }), script }
}
/** Waits, and keeps the process for it: a tool does not. */
const soon = async (promise) => {
  const alive = setTimeout(() => {}, 10_000)
  try {
    return await promise
  } finally {
    clearTimeout(alive)
  }
}
/** What the model was told by the tools. */
const told = (result) =>
  result.messages.flatMap(({ parts }) => parts).filter(({ type }) => type === 'tool_result')
    .map(({ parts, isError = false }) => [parts.map((part) => part.text ?? part.value).join(), isError])

test('a JSON Schema goes to the model as it is, and the arguments are checked before the function runs', async () => {
  const calls = []
  const input = { type: 'object', properties: { city: { type: 'string', description: 'A city.' } }, required: ['city'], additionalProperties: false }
  const weather = tool({ name: 'weather', description: 'Temperature of a city.', input, run: (given) => (calls.push(given), { celsius: -3.5 }) })
  const script = new Scripted().call('weather', { town: 'Oslo' }).call('weather', { city: 'Oslo' }).say('Cold.')
  const result = await new Agent(script, { tools: [weather] }).run('How cold is it?')
  assert.deepEqual(script.requests[0].tools, [{ name: 'weather', description: 'Temperature of a city.', parameters: input }])
  assert.deepEqual(calls, [{ city: 'Oslo' }])
  assert.deepEqual(told(result).map(([, isError]) => isError), [true, false])
  assert.deepEqual([result.answer, result.status], ['Cold.', 'done'])
})

test('a zod schema becomes a JSON Schema, fills in defaults, and tells its faults to the model', async () => {
  const calls = []
  const forecast = tool({
    name: 'forecast',
    input: z.object({ city: z.string().describe('A city.'), days: z.number().int().default(3) }).refine(({ city }) => city !== 'Atlantis', 'no such city'),
    run: async (given) => void calls.push(given),
  })
  assert.deepEqual(forecast.parameters, {
    type: 'object',
    properties: { city: { type: 'string', description: 'A city.' }, days: { type: 'integer', default: 3, minimum: -9007199254740991, maximum: 9007199254740991 } },
    required: ['city'],
  })
  const script = new Scripted().call('forecast', { city: 'Atlantis' }).call('forecast', { city: 'Oslo' }).say('ok')
  const result = await new Agent(script, { tools: [forecast] }).run('x')
  assert.deepEqual(calls, [{ city: 'Oslo', days: 3 }])
  assert.match(told(result)[0][0], /no such city/)
})

test('tools that cannot be are refused where they are made', () => {
  for (const [fault, options] of [
    [/name/, { input: anything, run: () => 1 }],
    [/run/, { name: 'x', input: anything }],
    [/letters/, { name: 'white space', input: anything, run: () => 1 }],
    [/schema/i, { name: 'x', run: () => 1 }],
    [/schema/i, { name: 'x', input: { type: 'nothing' }, run: () => 1 }],
    [/no option `ruin`/, { name: 'x', input: anything, run: () => 1, ruin: 1 }],
  ]) assert.throws(() => tool(options), (error) => error instanceof InvalidInputError && fault.test(error.message), String(fault))
  const one = tool({ name: 'same', input: anything, run: () => 1 })
  assert.throws(() => new Agent(new Scripted(), { tools: [one, one] }), /two tools are named `same`/)
  assert.throws(() => new Agent(new Scripted(), { tools: [() => 1] }), InvalidInputError)
  assert.throws(() => new Agent({}, {}), InvalidInputError)
})

test('what a tool throws comes back as the same object, thrown or rejected, an Error or not', async () => {
  class Mine extends Error {}
  for (const boom of [new Mine('boom'), 'a string', { code: 7 }, undefined]) {
    for (const run of [() => { throw boom }, async () => { throw boom }, () => ({ then: (_, no) => no(boom) })]) {
      for (const start of [(agent) => agent.run('x'), (agent) => agent.stream('x').result()]) {
        let caught = 'nothing'
        await start(calling(run).agent).catch((error) => (caught = error))
        assert.equal(caught, boom)
      }
    }
  }
})

test('a result that is no JSON stops the run with the fault itself', async () => {
  await assert.rejects(calling(() => 1n).agent.run('x'), TypeError)
  const loop = {}
  loop.self = loop
  await assert.rejects(calling(async () => loop).agent.run('x'), TypeError)
})

test('a ToolError is told to the model and the run goes on', async () => {
  const doors = [() => { throw ToolError.retry('say which city') }, async () => { throw ToolError.failed('the station is down') }, () => 'fine']
  const { agent } = calling(() => doors.shift()(), [{}, {}, {}])
  const result = await agent.run('x')
  assert.deepEqual(told(result), [['say which city', true], ['the station is down', true], ['fine', false]])
  assert.equal(result.answer, 'done')
})

test('tools see the AsyncLocalStorage of the call that runs them', async () => {
  const storage = new AsyncLocalStorage()
  const { agent } = calling(async () => (await sleep(1), storage.getStore() ?? 'lost'), [{}, {}])
  assert.deepEqual(told(await storage.run('mine', () => agent.run('x'))), [['mine', false], ['mine', false]])

  const shared = new Agent(new Scripted().calls([['t', {}], ['t', {}]]).say('x').calls([['t', {}]]).say('y'), { tools: [tool({ name: 't', input: anything, run: () => storage.getStore() ?? 'lost' })] })
  const first = await storage.run('first', () => shared.run('x'))
  const second = await storage.run('second', () => shared.stream('x').result())
  assert.deepEqual([told(first), told(second)], [[['first', false], ['first', false]], [['second', false]]])
})

test('a tool may call the engine, many at once', async () => {
  const inner = new Scripted().forever('nested')
  const script = new Scripted().calls(Array.from({ length: 50 }, (_, n) => ['t', { n }])).say('done')
  const agent = new Agent(script, { tools: [tool({ name: 't', input: anything, run: async ({ n }) => `${n} ${(await inner.chat('x')).text}` })] })
  assert.deepEqual(told(await agent.run('x')), Array.from({ length: 50 }, (_, n) => [`${n} nested`, false]))
})

test('the facts of a call reach the tool, and its progress the watcher', async () => {
  let facts
  const { agent } = calling((_, context) => {
    facts = context
    context.emit({ at: 'half' })
    return 1
  })
  const events = []
  for await (const event of agent.stream('x', { runId: 'run-7' })) events.push(event)
  assert.equal(facts.runId, 'run-7')
  assert.ok(facts.idempotencyKey.includes(facts.callId) && facts.attempt === 1)
  assert.deepEqual(events.filter(({ type }) => type === 'tool_progress').map(({ callId, value }) => [callId, value]), [[facts.callId, { at: 'half' }]])
  assert.deepEqual(events.map(({ seq }) => seq), events.map((_, at) => at + 1))
  assert.deepEqual([events[0].type, events[0].isResumed, events.at(-1).type, events.at(-1).status], ['run_start', false, 'run_end', 'done'])
  facts.emit('after the end is heard by nobody')
})

test('aborting a run rejects with the reason and fires the signal of its tools', async () => {
  for (const start of [(agent, options) => agent.run('x', options), (agent, options) => agent.stream('x', options).result()]) {
    const controller = new AbortController()
    let stopped
    const { agent } = calling((_, { signal }) => {
      stopped = new Promise((resolve) => signal.addEventListener('abort', () => resolve(signal.reason)))
      setTimeout(() => controller.abort(why), 10)
      return new Promise(() => {})
    })
    const why = new Error('why')
    await assert.rejects(start(agent, { signal: controller.signal }), (error) => error === why)
    assert.equal((await soon(stopped)).name, 'AbortError')
  }
})

test('leaving the stream of a run stops its tools', async () => {
  let stopped
  const { agent } = calling((_, { signal }) => {
    stopped = new Promise((resolve) => signal.addEventListener('abort', resolve))
    return new Promise(() => {})
  })
  for await (const event of agent.stream('x')) {
    if (event.type !== 'tool_start') continue
    while (stopped === undefined) await sleep(1)
    break
  }
  await soon(stopped)
})

test('a tool that takes too long is told to the model, and its signal fires', async () => {
  let stopped
  const { agent } = calling(
    (_, { signal }) => {
      stopped = new Promise((resolve) => signal.addEventListener('abort', resolve))
      return new Promise(() => {})
    },
    [{}],
    { tool: { timeoutMs: 20 } },
  )
  const result = await agent.run('x')
  assert.equal(told(result)[0][1], true)
  await soon(stopped)
})

test('writing pauses the run and asks, unless the policy allows it', async () => {
  let ran = 0
  const asked = calling(() => ran++, [{}], { tool: { risk: 'write' } }).agent
  const paused = await asked.run('x')
  assert.deepEqual([paused.status, paused.answer, paused.questions.length, ran], ['paused', '', 1, 0])
  const allowed = calling(() => 'written', [{}], { tool: { risk: 'write' }, agent: { policy: 'allow_all' } }).agent
  assert.deepEqual(told(await allowed.run('x')), [['written', false]])
})

test('limits stop a run by code', async () => {
  const forever = new Agent(new Scripted().calls([['t', {}]]).calls([['t', {}]]).calls([['t', {}]]).say('x'), {
    tools: [tool({ name: 't', input: anything, run: () => 1 })],
    limits: { steps: 3 },
  })
  await assert.rejects(forever.run('x'), (error) => error instanceof StepLimitError && error instanceof StepwellError)
  const { agent } = calling(() => 1, [{}, {}], { agent: { budget: { calls: 2 } } })
  await assert.rejects(agent.run('x'), { code: 'budget_exceeded' })
})

test('the words of a run come without its events', async () => {
  const { agent } = calling(() => 1)
  let text = ''
  for await (const piece of agent.stream('x').text()) text += piece
  assert.equal(text, 'done')
})

test('a conversation goes on from its messages', async () => {
  const script = new Scripted().say('Blue.').say('Because of the air.')
  const agent = new Agent(script, { instructions: 'Be brief.' })
  const first = await agent.run('Which colour has the sky?')
  await agent.run([...first.messages, { role: 'user', parts: [{ type: 'text', text: 'Why?' }] }])
  assert.deepEqual(script.requests[1].messages.map(({ role }) => role), ['system', 'user', 'assistant', 'user'])
  await assert.rejects(agent.run(' '), InvalidInputError)
})
