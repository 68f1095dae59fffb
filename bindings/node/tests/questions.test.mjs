// Runs that wait for a person, and what they go on with; agents within agents.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { Agent, Approval, InterruptedRunError, InvalidInputError, RunStore, Scripted, StepwellError, model, registerAgent, tool } from 'stepwell'

const cents = { type: 'object', properties: { cents: { type: 'integer' } }, required: ['cents'] }
/** An agent that wants to pay, and what it paid. */
function paying(options = {}, script = new Scripted().call('pay', { cents: 5 }).say('done')) {
  const sent = []
  const pay = tool({ name: 'pay', input: cents, risk: 'write', effect: 'at_most_once', run: async (given) => (sent.push(given.cents), 'paid') })
  return { agent: new Agent(script, { tools: [pay], ...options }), sent }
}
const told = (result) =>
  result.messages.flatMap(({ parts }) => parts).filter(({ type }) => type === 'tool_result').map(({ parts }) => parts.map((part) => part.text ?? part.value).join())

test('a call that writes pauses the run and an approval lets it go on', async () => {
  const { agent, sent } = paying()
  const paused = await agent.run('pay')
  assert.deepEqual([paused.status, paused.isPaused, paused.pause, paused.answer, sent], ['paused', true, { pause: 'questions' }, '', []])
  const [question] = paused.questions
  assert.deepEqual([question.node, question.path, question.payload.tool, question.payload.arguments], ['tools', undefined, 'pay', { cents: 5 }])
  assert.equal(question.key, `approve:${question.callId}`)
  assert.ok(question.askedMs > 0 && question.expiresMs === undefined)
  assert.deepEqual(question.schema.required, ['decision', 'digest'])
  const done = await agent.goOn(paused, { answers: { [question.id]: Approval.allow(question) } })
  assert.deepEqual([done.answer, done.isPaused, done.pause, done.questions, done.runId, sent], ['done', false, null, [], paused.runId, [5]])
})

test('a denied call does not run, and an edited one runs as edited', async () => {
  for (const [answer, ran, heard] of [
    [(question) => Approval.deny(question, 'too much'), [], /too much/],
    [(question) => Approval.edit(question, { cents: 3 }), [3], /paid/],
  ]) {
    const { agent, sent } = paying()
    const paused = await agent.run('pay')
    const done = await agent.goOn(paused, { answers: { [paused.questions[0].id]: answer(paused.questions[0]) } })
    assert.deepEqual([done.answer, sent], ['done', ran])
    assert.match(told(done)[0], heard)
  }
})

test('a paused run goes on from its store in another agent', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'stepwell-runs-'))
  try {
    const store = () => RunStore.sqlite(join(folder, 'runs.db'))
    const { questions: [question] } = await paying({ store: store() }).agent.run('pay', { runId: 'r1' })
    const { agent, sent } = paying({ store: store(), isSynced: true }, new Scripted().say('done later'))
    const still = await agent.resume('r1')
    assert.deepEqual([still.status, still.questions], ['paused', [question]])
    await assert.rejects(agent.resume('r1', { answers: { [question.id]: { decision: 'perhaps' } } }), /does not fit its schema/)
    const done = await agent.resume('r1', { answers: { [question.id]: Approval.allow(question) } })
    assert.deepEqual([done.answer, sent], ['done later', [5]])
    await assert.rejects(agent.resume('r2'), { code: 'not_found' })
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('a run is kept in memory too, and the stream of one that pauses has its questions', async () => {
  const { agent, sent } = paying({ store: RunStore.memory() })
  const stream = agent.stream('pay')
  const events = []
  for await (const event of stream) events.push(event)
  const paused = await stream.result()
  const [asked, end] = [events.find(({ type }) => type === 'question'), events.at(-1)]
  assert.deepEqual(asked.question, paused.questions[0])
  assert.deepEqual([end.type, end.status, end.pause, end.questions], ['run_end', 'paused', paused.pause, paused.questions])
  const answers = { [paused.questions[0].id]: Approval.allow(paused.questions[0]) }
  assert.equal((await agent.goOn(paused, { answers })).answer, 'done')
  assert.deepEqual(sent, [5])
})

test('what cannot go on is told', async () => {
  const { agent, sent } = paying()
  const paused = await agent.run('pay')
  const [question] = paused.questions
  await assert.rejects(paying().agent.goOn(paused), /another agent's/)
  await assert.rejects(agent.goOn({ ...paused }), /not paused in this process/)
  // The run is not lost by an answer that is refused.
  await assert.rejects(agent.goOn(paused, { answers: { x: true } }), /no question `x`/)
  await assert.rejects(agent.goOn(paused, { answers: { [question.id]: { decision: 'perhaps' } } }), /its schema/)
  const still = await agent.goOn(paused)
  assert.deepEqual([still.status, still.questions[0].id], ['paused', question.id])
  const done = await agent.goOn(still, { answers: { [question.id]: Approval.allow(question) } })
  assert.deepEqual([done.answer, sent], ['done', [5]])
  await assert.rejects(agent.goOn(still), /gone on already|not paused/)
  assert.throws(() => Approval.allow({ ...question, payload: {} }), InvalidInputError)
  assert.throws(() => new Agent(new Scripted(), { store: {} }), /pass a RunStore/)
})

test('an agent within an agent asks the person and spends of the same budget', async () => {
  const payer = paying({ name: 'payer' })
  const script = new Scripted().call('payer', { task: 'Pay five.' }).say('all done')
  // A tool of the same name: the engine calls the right one.
  const own = tool({ name: 'pay', input: cents, run: () => 'the wrong one' })
  const boss = new Agent(script, { tools: [own, payer.agent.tool('payer', 'Pays what it is told.')], budget: { calls: 7 } })
  const paused = await boss.run('go')
  const [question] = paused.questions
  assert.deepEqual([question.path, question.payload.tool, payer.sent], [[`tools@${paused.messages.at(-1).parts[0].id}`], 'pay', []])
  const done = await boss.goOn(paused, { answers: { [question.id]: Approval.allow(question) } })
  assert.deepEqual([done.answer, payer.sent, told(done), done.spent.calls], ['all done', [5], ['done'], 7])
  assert.deepEqual(script.requests[0].tools[1].parameters.required, ['task'])

  const poor = new Agent(new Scripted().call('payer', { task: 'Pay.' }).say('never'), {
    tools: [paying({ policy: 'allow_all' }).agent.tool('payer', 'Pays.')],
    budget: { calls: 5 },
  })
  await assert.rejects(poor.run('go'), { code: 'budget_exceeded' })
  assert.throws(() => payer.agent.tool('two words', 'x'), /letters/)
  assert.throws(() => new Agent(new Scripted(), { tools: [payer.agent] }), /agent\.tool/)
  assert.deepEqual(Object.keys(payer.agent.tool('payer', 'Pays.')), ['name', 'description', 'parameters'])
})

test('an agent is a model by its name, and one that waits there is an error', async () => {
  const boom = new Error('boom')
  let fails = false
  const stars = tool({ name: 'stars', input: { type: 'object' }, run: async () => { if (fails) throw boom; return 7 } })
  const script = new Scripted().call('stars', {}).say('seven').call('stars', {}).say('eight').call('stars', {})
  registerAgent('counter', new Agent(script, { tools: [stars] }))
  const counter = model('agent/counter')
  assert.equal(counter.info.provider + '/' + counter.info.model, 'agent/counter')
  assert.equal((await counter.chat('How many?')).text, 'seven')
  const around = new Agent(counter, { instructions: 'Ask.' })
  assert.equal((await around.run('And now?')).answer, 'eight')
  fails = true
  await assert.rejects(around.run('And then?'), (error) => error === boom)

  registerAgent('payer', paying().agent)
  await assert.rejects(model('agent/payer').chat('pay'), (error) => error instanceof InterruptedRunError && error instanceof StepwellError && error.runId.length > 0)
  assert.throws(() => registerAgent('a/b', paying().agent), /agent name/)
  assert.throws(() => registerAgent('x', {}), /pass an Agent/)
  assert.throws(() => model('agent/counter', { apiKey: 'k' }), InvalidInputError)
})
