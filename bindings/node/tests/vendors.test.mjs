// Vendors by name with options of the program's own, over a real local socket; layers around models.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import {
  Breaker, Budget, BudgetExceededError, Cache, Cassette, Embedder, InvalidInputError, NotFoundError, OverloadedError,
  RateLimiter, SchemaMismatchError, Scripted, TimeoutError, embedder, model, register, registerCompatible, reranker,
} from 'stepwell'
import { z } from 'zod'

/** A server that answers as a vendor would: each answer is a status and a body; the last one goes on for ever. */
async function vendor(t, ...answers) {
  const asked = []
  const server = createServer(async (request, response) => {
    const pieces = []
    for await (const piece of request) pieces.push(piece)
    asked.push({ path: request.url, headers: request.headers, body: JSON.parse(Buffer.concat(pieces)) })
    const [status, answer] = answers.length > 1 ? answers.shift() : answers[0]
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  return { url: `http://127.0.0.1:${server.address().port}`, asked }
}

const said = (text) => [200, {
  id: 'c1',
  model: 'm',
  choices: [{ index: 0, message: { role: 'assistant', content: text }, finish_reason: 'stop' }],
  usage: { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 },
}]
const busy = [503, { error: { message: 'busy', type: 'server_error' } }]

test('any vendor takes a key, an address and headers', async (t) => {
  const { url, asked } = await vendor(t, said('hello'))
  for (const name of ['groq/m', 'mistral/m', 'vllm/m', 'openrouter/org/m']) {
    const options = { apiKey: 'k', baseUrl: `${url}/v1`, headers: { 'x-team': 'a' }, http: { idleTimeoutMs: 5000 } }
    const answer = await model(name, options).chat('hi')
    assert.deepEqual([answer.text, answer.usage.inputTokens, answer.usage.outputTokens], ['hello', 7, 3])
    const { path, headers, body } = asked.at(-1)
    assert.deepEqual([path, headers.authorization, headers['x-team']], ['/v1/chat/completions', 'Bearer k', 'a'])
    assert.equal(body.model, name.slice(name.indexOf('/') + 1))
  }
  assert.throws(() => model('groq/m', { apikey: 'k' }), /no option `apikey`; there are apiKey/)
  assert.throws(() => model('groq/m', { apiKey: 'k', http: { idleTimeoutMs: -1 } }), /idleTimeoutMs: give milliseconds/)
})

test('a failed call is made again unless the model is bare', async (t) => {
  const mended = await vendor(t, busy, said('at last'))
  const answer = await model('vllm/m', { baseUrl: mended.url }).withRetry({ firstDelayMs: 10 }).chat('hi')
  assert.deepEqual([answer.text, answer.attempts.map(({ status }) => status)], ['at last', [503]])
  const down = await vendor(t, busy)
  await assert.rejects(model('vllm/m', { baseUrl: down.url, isBare: true }).chat('hi'), OverloadedError)
  assert.equal(down.asked.length, 1)
})

test('a cassette plays without a server and goes wrong on demand', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'stepwell-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'calls.jsonl')
  const { url, asked } = await vendor(t, said('recorded'))
  const cassette = Cassette.record(path)
  assert.equal(cassette.isPlaying, false)
  await model('groq/m', { apiKey: 'k-canary', baseUrl: url, cassette }).chat('hi')
  assert.doesNotMatch(readFileSync(path, 'utf8'), /canary/)
  const again = Cassette.play(path, { chunks: { random: { seed: 7 } } })
  assert.equal((await model('groq/m', { cassette: again }).chat('hi')).text, 'recorded')
  await assert.rejects(model('groq/m', { cassette: again, isBare: true }).chat('something else'), NotFoundError)
  const broken = Cassette.play(path, { faults: [{ call: 0, fault: { status: 529 } }] })
  const answer = await model('groq/m', { cassette: broken }).withRetry({ firstDelayMs: 10 }).chat('hi')
  assert.deepEqual(answer.attempts.map(({ status }) => status), [529])
  assert.throws(() => Cassette.play(path, { faults: [{ call: 0, fault: { explodeAt: 1 } }] }), InvalidInputError)
  assert.equal(asked.length, 1)
})

test('embedders and rerankers of vendors by name', async (t) => {
  const rows = [{ index: 1, embedding: [0, 2] }, { index: 0, embedding: [3, 0] }]
  const first = await vendor(t, [200, { data: rows, model: 'e', usage: { prompt_tokens: 2, total_tokens: 2 } }])
  const made = await embedder('vllm/e', { baseUrl: first.url, width: 2 })
  assert.ok(made instanceof Embedder)
  assert.equal((await made.info()).dimension, 2)
  assert.deepEqual((await made.embed(['a', 'b'])).map((row) => [...row]), [[1, 0], [0, 1]])
  await assert.rejects(embedder('vllm/e'), /width/)
  assert.equal((await (await embedder('minilm/all-MiniLM-L6-v2')).info()).dimension, 384)

  const scores = [{ index: 1, relevance_score: 0.9 }, { index: 0, relevance_score: 0.2 }]
  const second = await vendor(t, [200, { data: scores, usage: { total_tokens: 9 } }])
  const ranker = reranker('voyage/rerank-2.5', { apiKey: 'k', baseUrl: second.url })
  const hits = await ranker.rerank('what is ruby', ['a town', 'a language by Matz'])
  assert.deepEqual(hits.map(({ chunk, score }) => [chunk.documentId, Number(score.toFixed(3))]), [['1', 0.9], ['0', 0.2]])
  assert.equal((await ranker.rerank('what is ruby', hits, { topK: 1 }))[0].chunk.text, 'a town')
})

test("vendors of one's own", async (t) => {
  const { url } = await vendor(t, said('mine'))
  registerCompatible('my-server', `${url}/v1`, { images: false })
  assert.equal((await model('my-server/m').chat('hi')).text, 'mine')
  register('echo', (name) => new Scripted({ name: `echo/${name}` }).say(name.toUpperCase()))
  assert.equal((await model('echo:any/thing').chat('hi')).text, 'ANY/THING')
  assert.throws(() => model('echo/x', { apiKey: 'k' }), /vendor of this program/)
  assert.throws(() => registerCompatible('other', url, { imagess: false }), InvalidInputError)
  for (const wrong of ['', 'a/b', 'a:b']) assert.throws(() => register(wrong, model), InvalidInputError)
  register('broken', () => 'no model')
  assert.throws(() => model('broken/x'), /pass a model/)
})

test('a fallback answers when the first cannot', async () => {
  const first = new Scripted({ name: 'first/m' }).fail('quota_exceeded')
  const together = first.withFallback(new Scripted({ name: 'second/m' }).say('from the second'))
  const answer = await together.chat('hi')
  assert.deepEqual([answer.text, answer.provider, answer.attempts[0].code], ['from the second', 'second', 'quota_exceeded'])
  assert.equal(together.info.provider, 'first')
  assert.throws(() => first.withFallback([first], { reasons: ['bad luck'] }), InvalidInputError)
})

test('a slow answer rings the clock and what had come is kept', async () => {
  const slow = new Scripted({ paceMs: 50 }).say('word '.repeat(50)).withTimeouts({ totalMs: 200 })
  await assert.rejects(slow.chat('hi'), (error) => {
    assert.ok(error instanceof TimeoutError)
    assert.match(error.partial.text, /^word/)
    return true
  })
})

test('limits are shared by the models they are around', async () => {
  const limiter = new RateLimiter({ maxConcurrent: 1, maxWaitMs: 50 })
  const stream = new Scripted({ paceMs: 20 }).say('word '.repeat(40)).withRateLimit(limiter).stream('hi')
  await stream.next()
  assert.deepEqual(limiter.load('scripted/script'), { waiting: 0, running: 1 })
  await assert.rejects(new Scripted().say('quick').withRateLimit(limiter).chat('hi'), /rate limit/)
  await stream.return()

  const budget = new Budget({ calls: 2 })
  for (const text of ['one', 'two']) await new Scripted().say(text).withBudget(budget).chat('hi')
  assert.equal(budget.spent.calls, 2)
  await assert.rejects(new Scripted().say('never').withBudget(budget).chat('hi'), BudgetExceededError)

  const breaker = new Breaker({ failures: 2, openForMs: 60_000 })
  const down = new Scripted().fail('overloaded').fail('overloaded').say('never')
  for (let call = 0; call < 3; call++) await assert.rejects(down.withBreaker(breaker).chat('hi'), OverloadedError)
  assert.equal(down.remaining, 1)
})

test('an equal request of the same tenant is answered from the cache', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'stepwell-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const script = new Scripted().say('first').say('second')
  const cache = new Cache({ path: join(folder, 'answers.db') })
  for (const [tenant, text] of [['a', 'first'], ['a', 'first'], ['b', 'second']]) {
    assert.equal((await script.withCache(cache, { tenant }).chat('hi')).text, text)
  }
  assert.equal(script.remaining, 0)
})

test('an answer comes as a value of the shape asked for', async (t) => {
  const { url, asked } = await vendor(t, said('{"city": "Oslo", "days": null}'))
  const shape = { type: 'object', properties: { city: { type: 'string' }, days: { type: 'integer' } }, required: ['city'] }
  const answer = await model('vllm/m', { baseUrl: url }).chatAs(shape, 'Where to?')
  assert.deepEqual(answer.value, { city: 'Oslo' })
  assert.equal(answer.response.usage.outputTokens, 3)
  assert.equal(asked[0].body.response_format.json_schema.schema.properties.city.type, 'string')

  const trip = z.object({ city: z.string().transform((city) => city.toUpperCase()), days: z.number().default(3) })
  const typed = await new Scripted().say('Gladly: {"city": "Rome"}').chatAs(trip, { messages: 'Where to?', temperature: 0 })
  assert.deepEqual(typed.value, { city: 'ROME', days: 3 })
})

test('an answer of another shape is an error that keeps it', async () => {
  const shape = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] }
  await assert.rejects(new Scripted().say('{"city": 77123}').chatAs(shape, 'Where to?'), (error) => {
    assert.ok(error instanceof SchemaMismatchError)
    assert.match(error.message, /city/)
    assert.doesNotMatch(error.message, /77123/)
    assert.match(error.partial.text, /77123/)
    return true
  })
  const even = z.object({ n: z.number().refine((n) => n % 2 === 0, 'odd') })
  await assert.rejects(new Scripted().say('{"n": 3}').chatAs(even, 'A number?'), SchemaMismatchError)
  await assert.rejects(new Scripted().chatAs(shape, { messages: 'x', responseFormat: 'json' }), /responseFormat/)
})

test('a slip in an option is refused with what there is', () => {
  const scripted = new Scripted()
  assert.throws(() => scripted.withRetry({ maxRetry: 3 }), /no option `maxRetry`; there are maxRetries/)
  assert.throws(() => scripted.withTimeouts({ totalMs: 'long' }), /totalMs: give milliseconds/)
  assert.throws(() => scripted.withBudget({ calls: 3 }), /pass a Budget/)
  assert.throws(() => new Budget({ token: 3 }), /no option `token`/)
})
