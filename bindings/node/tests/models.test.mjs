// Models: requests, answers, streams, errors, signals. A real socket plays the vendor where one is needed.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import test from 'node:test'
import {
  Anthropic, CancelledError, InvalidInputError, Message, MissingKeyError, NotFoundError, OpenAi, ProviderError,
  RateLimitedError, Scripted, StepwellError, StreamTruncatedError, model,
} from 'stepwell'
import { z } from 'zod'

const slow = () => new Scripted({ paceMs: 1, deltaChars: 1 }).say('x'.repeat(1e5))

test('a question, a message, messages and a request with options are all understood', async () => {
  const scripted = new Scripted().forever('yes')
  await scripted.chat('one')
  await scripted.chat(Message.user('two'))
  await scripted.chat([Message.system('be brief'), { role: 'user', parts: [{ type: 'text', text: 'three' }] }])
  const answer = await scripted.chat({ messages: [Message.assistant('before'), Message.user('four')], temperature: 0 })
  assert.equal(answer.text, 'yes')
  assert.equal(answer.finishReason, 'stop')
  assert.equal(answer.usage.isEstimated, true)
  assert.deepEqual(
    scripted.requests.map(({ messages }) => messages.map((message) => [message.role, Message.text(message), message.parts[0].origin])),
    [
      [['user', 'one', 'user']],
      [['user', 'two', 'user']],
      [['system', 'be brief', 'system'], ['user', 'three', 'user']],
      [['assistant', 'before', 'model'], ['user', 'four', 'user']],
    ],
  )
})

test('an answer can be sent back as it came', async () => {
  const scripted = new Scripted().call('look_up', { max_rows: 1 }).say('done')
  const first = await scripted.chat('x')
  assert.deepEqual(first.toolCalls.map(({ name, arguments: input }) => [name, input]), [['look_up', { max_rows: 1 }]])
  const result = {
    role: 'tool',
    parts: [{ type: 'tool_result', callId: first.toolCalls[0].id, name: 'look_up', parts: [{ type: 'text', text: '7' }] }],
  }
  await scripted.chat([Message.user('x'), first.message, result])
  const { messages } = scripted.requests[1]
  assert.deepEqual(messages[1], first.message)
  assert.equal(messages[2].parts[0].parts[0].origin, 'tool')
})

test('what is wrong with a request is told without its words', async () => {
  const scripted = new Scripted().forever('x')
  for (const bad of [undefined, 1, { messages: 'x', temprature: 1 }, { messages: [{ role: 'user', parts: 'canary' }] }]) {
    await assert.rejects(scripted.chat(bad), (error) => {
      assert.ok(error instanceof InvalidInputError && error instanceof StepwellError && error instanceof Error)
      assert.deepEqual([error.name, error.code, error.retryable], ['InvalidInputError', 'invalid_input', false])
      assert.doesNotMatch(error.message, /canary/)
      return true
    })
  }
  await assert.rejects(scripted.chat('x', { sginal: 1 }), /no option `sginal`/)
})

test('a stream gives events of each part and closes with one finish', async () => {
  const types = []
  let text = ''
  const stream = new Scripted({ deltaChars: 1 }).say('y'.repeat(5000)).stream('x')
  for await (const event of stream) {
    if (event.type === 'text_delta') text += event.text
    else types.push(event.type)
  }
  assert.deepEqual(types, ['message_start', 'text_start', 'text_end', 'usage', 'finish'])
  assert.equal(text, 'y'.repeat(5000))
  assert.equal((await stream.response()).text, text)
})

test('text() gives the words alone, also after a few events', async () => {
  const whole = Array.from({ length: 3000 }, (_, at) => `${at} `).join('')
  const stream = new Scripted({ deltaChars: 3 }).say(whole).stream('x')
  let text = ''
  for (let count = 0; count < 5; count++) {
    const { value } = await stream.next()
    if (value.type === 'text_delta') text += value.text
  }
  for await (const piece of stream.text()) text += piece
  assert.equal(text, whole)
  assert.equal((await stream.response()).text, whole)
})

test('a stream can be read by several readers at once without losing an event', async () => {
  const stream = new Scripted({ deltaChars: 1, paceMs: 1 }).say('z'.repeat(60)).stream('x')
  let deltas = 0
  const read = async () => {
    for (let step; !(step = await stream.next()).done; ) if (step.value.type === 'text_delta') deltas++
  }
  await Promise.all([read(), read(), read()])
  assert.equal(deltas, 60)
})

test('toReadableStream and asyncDispose', async () => {
  let events = 0
  for await (const _ of new Scripted({ deltaChars: 1 }).say('abc').stream('x').toReadableStream()) events++
  assert.equal(events, 8)
  const stream = slow().stream('x')
  await stream.next()
  await stream[Symbol.asyncDispose ?? Symbol.for('nodejs.asyncDispose')]()
  assert.equal((await stream.next()).done, true)
  assert.equal(await stream.response(), undefined)
})

test('items before an error come first, then the error with its facts', async () => {
  const scripted = new Scripted({ deltaChars: 2 }).fail('rate_limited', { retryAfter: 1500, after: 'half an answer' })
  let text = ''
  const stream = scripted.stream('x')
  await assert.rejects(
    async () => {
      for await (const event of stream) if (event.type === 'text_delta') text += event.text
    },
    (error) => {
      assert.ok(error instanceof RateLimitedError && error instanceof ProviderError)
      assert.deepEqual([error.code, error.retryable, error.retryAfter, error.provider], ['rate_limited', true, 1500, 'scripted'])
      return true
    },
  )
  assert.equal(text, 'half an answer')
  await assert.rejects(stream.response(), RateLimitedError)
})

test('an answer that breaks off is an error that keeps what came', async () => {
  await assert.rejects(new Scripted().breakOff('half').chat('x'), (error) => {
    assert.ok(error instanceof StreamTruncatedError)
    assert.equal(error.partial.text, 'half')
    return true
  })
})

test('a signal rejects a call and a stream with its own reason, and leaves no listener', async () => {
  const why = new Error('why')
  const controller = new AbortController()
  const removed = []
  const { signal } = controller
  const original = signal.removeEventListener.bind(signal)
  signal.removeEventListener = (...args) => (removed.push(args[0]), original(...args))
  await new Scripted().say('ok').chat('x', { signal })
  assert.deepEqual(removed, ['abort'])

  const call = slow().chat('x', { signal })
  const stream = slow().stream('x', { signal })
  await stream.next()
  setTimeout(() => controller.abort(why), 20)
  await assert.rejects(call, (error) => error === why)
  await assert.rejects(stream.response(), (error) => error === why)
  await assert.rejects(slow().chat('x', { signal }), (error) => error === why)
  assert.throws(() => slow().stream('x', { signal }), (error) => error === why)
  await assert.rejects(slow().chat('x', { signal: AbortSignal.timeout(20) }), { name: 'TimeoutError' })
  await assert.rejects(slow().chat('x', { signal: 'no signal' }), InvalidInputError)
})

test('a waiting reader is told when its stream is left', async () => {
  const stream = new Scripted({ paceMs: 60_000 }).say('x').stream('x')
  const waiting = stream.next()
  await stream.return()
  assert.deepEqual(await waiting, { value: undefined, done: true })
})

test('unknown vendors, odd names and missing keys are told by code', () => {
  assert.throws(() => model('acme/x'), NotFoundError)
  assert.throws(() => model('nothing'), InvalidInputError)
  assert.throws(() => model(), InvalidInputError)
  const key = process.env.ANTHROPIC_API_KEY
  delete process.env.ANTHROPIC_API_KEY
  try {
    assert.throws(() => model('anthropic/claude-sonnet-5'), (error) => error instanceof MissingKeyError && /ANTHROPIC_API_KEY/.test(error.message))
  } finally {
    if (key !== undefined) process.env.ANTHROPIC_API_KEY = key
  }
})

/** A vendor on a local socket: answers with these server-sent events, one per `everyMs`. */
async function vendor(t, answer) {
  const seen = []
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const piece of request) body += piece
    const exchange = { path: request.url, headers: request.headers, body: JSON.parse(body), closed: once(response, 'close') }
    seen.push(exchange)
    await answer(response, exchange)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => (server.closeAllConnections(), server.close()))
  return { seen, baseUrl: `http://127.0.0.1:${server.address().port}` }
}
const sse = { 'content-type': 'text/event-stream' }
const delta = (content) => `data: ${JSON.stringify({ id: 'c1', object: 'chat.completion.chunk', model: 'm', choices: [{ index: 0, delta: { content } }] })}\n\n`

test('a vendor with options: the key is sent, the request asserted, the stream read', async (t) => {
  const { seen, baseUrl } = await vendor(t, async (response) => {
    response.writeHead(200, sse)
    for (const piece of ['{"ok"', ': tr', 'ue}']) response.write(delta(piece))
    response.write(`data: ${JSON.stringify({ id: 'c1', model: 'm', choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] })}\n\n`)
    response.write(`data: ${JSON.stringify({ id: 'c1', model: 'm', choices: [], usage: { prompt_tokens: 5, completion_tokens: 3 } })}\n\n`)
    response.end('data: [DONE]\n\n')
  })
  const openai = new OpenAi('m', { apiKey: 'k-canary', baseUrl })
  const schema = z.object({ ok: z.boolean() })
  const answer = await openai.chat({ messages: 'What?', maxOutputTokens: 7, responseFormat: { name: 'shape', schema } })
  assert.equal(answer.text, '{"ok": true}')
  assert.deepEqual(answer.structured, { strategy: 'native', value: { ok: true } })
  assert.deepEqual([answer.usage.inputTokens, answer.usage.outputTokens], [5, 3])
  assert.equal(seen[0].headers.authorization, 'Bearer k-canary')
  assert.equal(seen[0].body.response_format.json_schema.schema.properties.ok.type, 'boolean')
  assert.equal(seen[0].body.messages[0].role, 'user')
})

test('a refused key and a rate limit come with what the vendor said', async (t) => {
  let status = 401
  const { seen, baseUrl } = await vendor(t, async (response) => {
    response.writeHead(status, { 'content-type': 'application/json', 'retry-after': '0.02', 'request-id': 'req_1' })
    response.end(JSON.stringify({ type: 'error', error: { type: status === 401 ? 'authentication_error' : 'rate_limit_error', message: 'no' } }))
  })
  const claude = new Anthropic('m', { apiKey: 'k-canary', baseUrl })
  await assert.rejects(claude.chat('x'), (error) => {
    assert.deepEqual([error.code, error.status, error.kind], ['unauthorized', 401, 'authentication_error'])
    assert.doesNotMatch(`${error.stack} ${JSON.stringify(error)}`, /canary/)
    return true
  })
  status = 429
  await assert.rejects(claude.chat('x'), (error) => {
    assert.deepEqual([error.code, error.retryable, error.retryAfter, error.requestId], ['rate_limited', true, 20, 'req_1'])
    return true
  })
  // A refused key is told at once, a rate limit after two more tries.
  assert.equal(seen.length, 4)
})

test('leaving a stream closes the connection to the vendor', async (t) => {
  const { seen, baseUrl } = await vendor(t, async (response) => {
    response.writeHead(200, sse)
    const timer = setInterval(() => response.write(delta('x')), 2)
    response.on('close', () => clearInterval(timer))
  })
  const openai = new OpenAi('m', { apiKey: 'k', baseUrl })
  for await (const event of openai.stream('x')) if (event.type === 'text_delta') break
  await seen[0].closed
  const controller = new AbortController()
  const call = openai.chat('x', { signal: controller.signal })
  while (seen.length < 2) await new Promise((resolve) => setTimeout(resolve, 5))
  controller.abort()
  await assert.rejects(call, { name: 'AbortError' })
  await seen[1].closed
})

test('a cause is kept as a chain of errors', async () => {
  const nobody = new OpenAi('m', { apiKey: 'k', baseUrl: 'http://127.0.0.1:1' })
  await assert.rejects(nobody.chat('x'), (error) => {
    assert.deepEqual([error.code, error.retryable], ['transport', true])
    assert.ok(error.cause instanceof Error)
    return true
  })
})

test('CancelledError is for cancellations that no signal asked for', () => {
  assert.ok(Object.getPrototypeOf(CancelledError) === StepwellError)
})
