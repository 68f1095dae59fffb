// The package itself: ESM and CJS, exit, worker threads, the README.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import * as esm from 'stepwell'

const here = dirname(fileURLToPath(import.meta.url))
const root = dirname(here)
const cjs = createRequire(import.meta.url)('stepwell')

test('import and require give the same classes', () => {
  const names = Object.keys(esm).filter((name) => name !== 'default' && name !== 'module.exports')
  assert.deepEqual(names.sort(), Object.keys(cjs).sort())
  for (const name of names) assert.equal(esm[name], cjs[name], name)
})

test('every name that the types declare is there, and no other', async () => {
  const types = await readFile(join(root, 'index.d.ts'), 'utf8')
  const declared = new Set([...types.matchAll(/^export declare (?:class|function|const) (\w+)/gm)].map(([, name]) => name))
  assert.deepEqual([...declared].sort(), Object.keys(cjs).sort())
})

/** Runs a program in a fresh process, in this package. */
function program(code, { timeout = 20_000 } = {}) {
  const started = Date.now()
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', code], { cwd: root, timeout })
    let [out, err] = ['', '']
    child.stdout.on('data', (data) => (out += data))
    child.stderr.on('data', (data) => (err += data))
    child.on('error', reject)
    child.on('close', (status, signal) => resolve({ status, signal, out: out.trim(), err: err.trim(), ms: Date.now() - started }))
  })
}
const imports = `import { Agent, Scripted, tool } from 'stepwell'
const slow = () => new Scripted({ paceMs: 1, deltaChars: 1 }).say('x'.repeat(1e5))
const echo = tool({ name: 'echo', input: { type: 'object' }, run: async (input) => input })
`

test('a process exits by itself after its work', async () => {
  const run = await program(`${imports}
    const agent = new Agent(new Scripted().call('echo', {}).say('done'), { tools: [echo] })
    for await (const _ of new Scripted().say('hello').stream('x'));
    console.log((await agent.run('x')).answer)`)
  assert.deepEqual([run.status, run.out, run.err], [0, 'done', ''])
})

test('an abandoned stream does not hold the process', async () => {
  const run = await program(`${imports}
    const stream = slow().stream('x')
    await stream.next()
    console.log('left')`)
  assert.deepEqual([run.status, run.out, run.err], [0, 'left', ''])
  assert.ok(run.ms < 10_000, `${run.ms} ms`)
})

test('process.exit with a call, a stream and a tool in flight is clean', async () => {
  const run = await program(`${imports}
    slow().chat('x')
    slow().stream('x').next().then(() => slow().stream('x').response())
    const hang = tool({ name: 'hang', input: { type: 'object' }, run: () => new Promise(() => {}) })
    new Agent(new Scripted().call('hang'), { tools: [hang] }).run('x')
    setTimeout(() => process.exit(3), 200)`)
  assert.deepEqual([run.status, run.signal, run.err], [3, null, ''])
  assert.ok(run.ms < 10_000, `${run.ms} ms`)
})

test('a rejection nobody awaits is an ordinary unhandled rejection', async () => {
  const run = await program(`${imports}
    const late = tool({ name: 'late', input: { type: 'object' }, run: async () => { throw new Error('too late') } })
    new Agent(new Scripted().call('late'), { tools: [late] }).run('x')
    setTimeout(() => {}, 2000)`)
  assert.equal(run.status, 1)
  assert.match(run.err, /too late/)
})

const inWorker = (code) =>
  new Worker(`const { parentPort } = require('worker_threads'); import(${JSON.stringify(join(root, 'index.mjs'))}).then(async (m) => { ${code} })`, { eval: true })

test('worker threads each have a working engine', async () => {
  const work = `let events = 0
    for await (const _ of new m.Scripted({ deltaChars: 1 }).say('x'.repeat(500)).stream('x')) events++
    const echo = m.tool({ name: 'echo', input: { type: 'object' }, run: async (input) => input })
    const agent = new m.Agent(new m.Scripted().call('echo', { n: 1 }).say('ok'), { tools: [echo] })
    parentPort.postMessage([events, (await agent.run('x')).answer])`
  const runs = await Promise.all(
    [1, 2, 3].map(
      () =>
        new Promise((resolve, reject) => {
          const worker = inWorker(work)
          let message
          worker.on('message', (given) => (message = given))
          worker.on('error', reject)
          worker.on('exit', (code) => resolve([code, ...(message ?? [])]))
        }),
    ),
  )
  assert.deepEqual(runs, [1, 2, 3].map(() => [0, 505, 'ok']))
})

test('a worker can be terminated in the middle of streams and tools', async () => {
  for (let round = 0; round < 5; round++) {
    const worker = inWorker(`
      const hang = m.tool({ name: 'hang', input: { type: 'object' }, run: () => new Promise(() => {}) })
      new m.Agent(new m.Scripted().call('hang'), { tools: [hang] }).run('x')
      setTimeout(() => parentPort.postMessage('on'), 20)
      for await (const _ of new m.Scripted({ paceMs: 1, deltaChars: 1 }).say('x'.repeat(1e5)).stream('x'));`)
    await new Promise((resolve, reject) => worker.on('message', resolve).on('error', reject))
    assert.equal(await worker.terminate(), 1)
  }
  assert.equal((await new esm.Scripted().say('alive').chat('x')).text, 'alive')
})

test('the command without a question tells how it is used', () => {
  const run = spawnSync(process.execPath, [join(root, 'bin/stepwell.mjs')], { encoding: 'utf8' })
  assert.equal(run.status, 2)
  assert.match(run.stderr, /stepwell ask/)
})

test('Ctrl-C stops the command in good order, and the index is whole', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'stepwell-ask-'))
  try {
    await mkdir(join(folder, 'files'))
    const text = Array.from({ length: 40 }, (_, at) => `Sentence ${at} tells of a subject and of the field it grows in.`).join(' ')
    await Promise.all(Array.from({ length: 1000 }, (_, at) => writeFile(join(folder, 'files', `${at}.md`), `# ${at}\n\n${text}\n`)))
    const index = join(folder, 'index')
    const child = spawn(process.execPath, [join(root, 'bin/stepwell.mjs'), 'ask', '--index', index, join(folder, 'files'), 'What?'])
    let err = ''
    child.stderr.on('data', (data) => (err += data))
    while (!existsSync(join(index, 'meta.json'))) await new Promise((resolve) => setTimeout(resolve, 20))
    child.kill('SIGINT')
    const [status] = await once(child, 'close')
    assert.equal(status, 130, err)
    assert.match(err, /stopped/)
    await (await esm.Collection.open(index, { embedder: new esm.MiniLm() })).verify()
  } finally {
    await rm(folder, { recursive: true })
  }
})

test('the programs of the README print what it says', async () => {
  const readme = await readFile(join(root, 'README.md'), 'utf8')
  const pairs = [...readme.matchAll(/```js\n([\s\S]*?)```\s*```text\n([\s\S]*?)```/g)]
  assert.ok(pairs.length >= 3, `${pairs.length} programs`)
  const folder = await mkdtemp(join(here, '.readme-'))
  try {
    for (const [, code, printed] of pairs) {
      await writeFile(join(folder, 'program.mjs'), code)
      const run = spawnSync(process.execPath, ['program.mjs'], { cwd: folder, encoding: 'utf8' })
      assert.equal(run.stdout, printed, run.stderr)
    }
  } finally {
    await rm(folder, { recursive: true })
  }
})
