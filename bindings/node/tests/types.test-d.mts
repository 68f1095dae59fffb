// Checked by `npm run types`, never run.
import {
  Agent, Approval, Collection, Extractive, Filter, MiniLm, RateLimitedError, RunStore, Scripted, StepwellError, model,
  retrieverTool, tool,
  type ChatResponse, type FailedDocument, type Hit, type RunEvent, type RunResult, type SegmentSearch, type Span, type StreamEvent,
} from 'stepwell'
import { z } from 'zod'

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
const yes = <T extends true>(): T | void => {}

const forecast = tool({
  name: 'forecast',
  input: z.object({ city: z.string(), days: z.number().default(3) }),
  run: async (input, { signal, emit }) => {
    yes<Equal<typeof input, { city: string; days: number }>>()
    yes<Equal<typeof signal, AbortSignal>>()
    emit({ at: 1 })
    return input.days
  },
})
yes<Equal<Awaited<ReturnType<typeof forecast.run>>, number>>()

const add = tool({
  name: 'add',
  description: 'Adds.',
  input: {
    type: 'object',
    properties: { a: { type: 'number' }, unit: { enum: ['m', 'km'] }, tags: { type: 'array', items: { type: 'string' } } },
    required: ['a'],
  },
  risk: 'write',
  run: (input) => {
    yes<Equal<typeof input, { a: number; unit?: 'm' | 'km'; tags?: string[] }>>()
    return input.a
  },
})

tool({
  name: 'x',
  input: z.object({ city: z.string() }),
  // @ts-expect-error: there is no `town`
  run: ({ town }) => town,
})
// @ts-expect-error: a tool needs a function
tool({ name: 'x', input: { type: 'object' } })
// @ts-expect-error: no such effect
tool({ name: 'x', input: { type: 'object' }, effect: 'twice', run: () => 1 })

async function main(): Promise<void> {
  const claude = model('anthropic/claude-sonnet-5')
  const answer = await claude.chat('hi', { signal: AbortSignal.timeout(5) })
  yes<Equal<typeof answer, ChatResponse>>()
  yes<Equal<typeof answer.text, string>>()
  await claude.chat({
    messages: [{ role: 'user', parts: [{ type: 'text', text: 'hi' }] }],
    tools: [forecast, add],
    temperature: 0,
    responseFormat: { name: 'answer', schema: z.object({ ok: z.boolean() }) },
  })
  // @ts-expect-error: a number is no prompt
  await claude.chat(1)
  // @ts-expect-error: a misspelt option
  await claude.chat('x', { sginal: AbortSignal.timeout(1) })
  // @ts-expect-error: a misspelt request option
  await claude.chat({ messages: 'x', temprature: 1 })

  for await (const event of claude.stream('hi')) {
    yes<Equal<typeof event, StreamEvent>>()
    if (event.type === 'text_delta') yes<Equal<typeof event.text, string>>()
    // @ts-expect-error: not every event has words
    void event.text
  }
  await using stream = claude.stream('hi')
  for await (const piece of stream.text()) yes<Equal<typeof piece, string>>()
  const readable: ReadableStream<StreamEvent> = stream.toReadableStream()
  void readable

  const papers = await Collection.open('papers', { embedder: new MiniLm(), fusion: { zScore: { weight: 0.5 } } })
  await papers.add({ id: 'a', text: 'b' }, { onProgress: (event) => void (event.type === 'skipped' && event.reason) })
  // @ts-expect-error: a document has an id
  await papers.add({ text: 'b' })
  const hits = await papers.search('x', { topK: 3, filter: Filter.and(Filter.eq('year', 2024), Filter.exists('title')) })
  yes<Equal<typeof hits, Hit[]>>()
  await papers.search('x', { unit: 'best_chunk', diversity: 0.3, minRelevance: 0.4, highlight: true, fuzzy: true, exactFirst: true })
  yes<Equal<Hit['highlights'], Span[] | undefined>>()
  // @ts-expect-error: no such unit
  await papers.search('x', { unit: 'page' })
  const report = await papers.add({ id: 'a', text: 'b' }, { stopsAtError: true, onProgress: (event) => void (event.type === 'failed' && event.error.code) })
  yes<Equal<typeof report.failed, FailedDocument[]>>()
  const plan = await papers.planSync('docs', { removes: false })
  const moved: { from: string; to: string }[] = plan.renamed
  void moved
  const explained = await papers.explain('x')
  yes<Equal<typeof explained.segments, SegmentSearch[]>>()
  const whole: boolean = (await papers.coverage('a')).isWhole
  void whole
  await Collection.inMemory({ storage: 'f32', metric: 'dot' })
  // @ts-expect-error: no such storage
  await Collection.inMemory({ storage: 'f16' })
  // @ts-expect-error: open one with `Collection.open`
  new Collection()

  const agent = new Agent(new Scripted().say('hi'), { tools: [forecast, add, retrieverTool('search', papers)], policy: 'allow_all' })
  const result = await agent.run('hi', { runId: 'r1' })
  yes<Equal<typeof result.answer, string>>()
  for await (const event of agent.stream('hi')) {
    yes<Equal<typeof event, RunEvent>>()
    if (event.type === 'tool_progress') yes<Equal<typeof event.callId, string>>()
  }
  // @ts-expect-error: a function is no tool
  new Agent(claude, { tools: [() => 1] })
  yes<Equal<typeof result.output, null>>()
  const shaped = new Agent(claude, { output: z.object({ city: z.string() }), template: 'Hello {{ name }}', store: RunStore.memory() })
  const paused = await shaped.run('hi', { variables: { name: 'Ada' } })
  yes<Equal<typeof paused.output, { city: string }>>()
  const [question] = paused.questions
  if (question !== undefined) await shaped.goOn(paused, { answers: { [question.id]: Approval.deny(question, 'no') } })
  yes<Equal<Awaited<ReturnType<typeof shaped.resume>>, RunResult<{ city: string }>>>()
  const literal = await new Agent(claude, { output: { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] } }).run('x')
  yes<Equal<typeof literal.output, { n: number }>>()
  new Agent(claude, { tools: [shaped.tool('helper', 'Helps.')], context: papers, contextPolicies: [{ type: 'trim', toTokens: 9000 }] })
  // @ts-expect-error: an agent is a tool only under a name
  new Agent(claude, { tools: [shaped] })
  // @ts-expect-error: a misspelt option
  new Agent(claude, { outputs: {} })
  await Extractive.create({ embedder: new MiniLm() })

  try {
    await claude.chat('x')
  } catch (error) {
    if (error instanceof RateLimitedError) {
      yes<Equal<typeof error.code, 'rate_limited'>>()
      yes<Equal<typeof error.retryAfter, number | undefined>>()
    }
    if (error instanceof StepwellError && error.code === 'disk_full') yes<Equal<typeof error.retryable, boolean>>()
    // @ts-expect-error: no such code
    if (error instanceof StepwellError && error.code === 'RATE_LIMITED') return
  }
}
void main
