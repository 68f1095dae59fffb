// What an agent may be given: a shape for its answer, templates, a context, context policies, tool options.
import assert from 'node:assert/strict'
import test from 'node:test'
import { Agent, Collection, Filter, Scripted, SchemaMismatchError, ToolError, tool } from 'stepwell'
import { z } from 'zod'

const good = '{"city":"Oslo","celsius":-3.5}'
const Weather = z.object({ city: z.string(), celsius: z.number() })
const says = (...texts) => texts.reduce((script, text) => script.say(text), new Scripted())

test('an answer in a shape is a value of it, and a faulty one is asked for again', async () => {
  const script = says('{"city":"Oslo"}', good)
  const result = await new Agent(script, { output: Weather }).run('How cold?')
  assert.deepEqual(result.output, { city: 'Oslo', celsius: -3.5 })
  assert.match(script.requests[1].messages.at(-1).parts[0].text, /celsius/)
  const schema = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] }
  assert.deepEqual((await new Agent(says('{"n":3}'), { output: schema }).stream('x').result()).output, { n: 3 })
  assert.equal((await new Agent(says('words')).run('x')).output, null)
})

test('what a schema makes of an answer is the output, and what it checks besides is told', async () => {
  const shape = z.object({ city: z.string() }).transform(({ city }) => city.toUpperCase())
  assert.equal((await new Agent(says('{"city":"Oslo"}'), { output: shape }).run('x')).output, 'OSLO')
  const picky = z.object({ city: z.string() }).refine(({ city }) => city !== 'Atlantis', 'no such city')
  await assert.rejects(new Agent(says('{"city":"Atlantis"}'), { output: picky }).run('x'), (error) => error instanceof SchemaMismatchError && /no such city/.test(error.message))
})

test('an answer that stays faulty ends the run after its retries', async () => {
  const script = says('no', 'no', good)
  await assert.rejects(new Agent(script, { output: Weather, outputRetries: 1 }).run('x'), SchemaMismatchError)
  assert.equal(script.requests.length, 2)
  assert.throws(() => new Agent(new Scripted(), { outputRetries: 1 }), /no shape/)
})

test('a template is filled anew for each run', async () => {
  const script = says('a', 'b')
  const agent = new Agent(script, { template: 'You help {{ name }} in {{ city }}.', variables: { name: 'us', city: 'Oslo' } })
  await agent.run('x')
  await agent.stream('x', { variables: { name: 'Ada' } }).result()
  assert.deepEqual(script.requests.map(({ messages }) => messages[0].parts[0].text), ['You help us in Oslo.', 'You help Ada in Oslo.'])
  await assert.rejects(new Agent(says('a'), { template: '{{ name }}' }).run('x'), /name/)
  assert.throws(() => new Agent(new Scripted(), { variables: { name: 'Ada' } }), /no template/)
  assert.throws(() => new Agent(new Scripted(), { template: 'x', instructions: 'y' }), /one of the two/)
})

test('a context is searched before the model is asked', async () => {
  const docs = await Collection.inMemory({ embedder: null })
  await docs.add([{ id: 'bread', text: 'Dough rests for an hour before it goes into the oven.' }, { id: 'steel', text: 'Steel is rolled while it glows.', metadata: { kind: 'metal' } }])
  const script = says('An hour.', 'It glows.')
  const found = await new Agent(script, { context: docs, contextOptions: { topK: 1 } }).run('How long does dough rest in the oven?')
  assert.deepEqual(found.hits.map(({ chunk }) => chunk.documentId), ['bread'])
  assert.match(JSON.stringify(script.requests[0].messages), /Dough rests/)
  const metal = await new Agent(script, { context: docs, contextOptions: { filter: Filter.eq('kind', 'metal') } }).run('dough and steel')
  assert.deepEqual(metal.hits.map(({ chunk }) => chunk.documentId), ['steel'])
  assert.throws(() => new Agent(script, { context: {} }), /pass a Collection/)
})

test('context policies shape what is sent, and the result keeps everything', async () => {
  const turn = (n) => [{ role: 'user', parts: [{ type: 'text', text: `question ${n} ${'word '.repeat(50)}` }] }, { role: 'assistant', parts: [{ type: 'text', text: 'answer' }] }]
  const conversation = [...Array.from({ length: 10 }, (_, n) => turn(n)).flat(), { role: 'user', parts: [{ type: 'text', text: 'and now?' }] }]
  const trimmed = says('ok')
  const result = await new Agent(trimmed, { contextPolicies: [{ type: 'trim', toTokens: 120, keepTurns: 1 }] }).run(conversation)
  assert.equal(result.messages.length, 22)
  assert.ok(trimmed.requests[0].messages.length < 10)

  const [summaries, script] = [says('They talked of words.'), says('ok')]
  await new Agent(script, { contextPolicies: [{ type: 'summarise', overTokens: 200, model: summaries, keepTurns: 1 }] }).run(conversation)
  assert.equal(summaries.requests.length, 1)
  assert.match(JSON.stringify(script.requests[0].messages), /They talked of words\./)

  const long = tool({ name: 'long', input: { type: 'object' }, run: () => 'much '.repeat(400) })
  const rounds = new Scripted().call('long', {}).call('long', {}).call('long', {}).say('ok')
  await new Agent(rounds, { tools: [long], contextPolicies: [{ type: 'drop_tool_outputs', keepRounds: 1, minBytes: 100 }] }).run('go')
  const results = rounds.requests.at(-1).messages.flatMap(({ parts }) => parts).filter(({ type }) => type === 'tool_result')
  assert.deepEqual(results.map((part) => JSON.stringify(part).length > 1000), [false, false, true])
  assert.throws(() => new Agent(script, { contextPolicies: [{ type: 'forget' }] }), /variant/)
})

test('a tool that failed is tried again as often as it says', async () => {
  let calls = 0
  const flaky = tool({
    name: 'flaky', input: { type: 'object' }, retries: 2,
    run: () => { if (++calls < 3) throw ToolError.failed('not yet'); return 'fine' },
  })
  const result = await new Agent(new Scripted().call('flaky', {}).say('ok'), { tools: [flaky] }).run('go')
  assert.deepEqual([calls, result.answer], [3, 'ok'])
})
