// What a search may be asked for beside its question, and what a collection tells of itself.
import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { Collection, Filter, InvalidInputError, MiniLm, NotFoundError } from 'stepwell'

const embedder = new MiniLm()
const wells = [
  { id: 'a', text: 'Ähnlich: sodium cathodes swell in summer.', title: 'Cathodes' },
  { id: 'b', text: 'Cathodes of lithium, and sodium in the sea.', title: 'Salt' },
  { id: 'c', text: 'Wells are deep.', title: 'The Guide', uri: 'https://example.org/Guide' },
]
const ids = (hits) => hits.map(({ chunk }) => chunk.documentId)
const marked = ({ chunk, highlights = [] }) => highlights.map(({ start, end }) => Buffer.from(chunk.text).subarray(start, end).toString())

async function words() {
  const collection = await Collection.inMemory({ embedder: null })
  await collection.add(wells)
  return collection
}

async function folder(t) {
  const path = await mkdtemp(join(tmpdir(), 'stepwell-'))
  t.after(() => rm(path, { recursive: true, force: true }))
  return path
}

/** Refused as invalid input, in one sentence like this. */
const refused = (sentence) => (error) => {
  assert.ok(error instanceof InvalidInputError, `${error}`)
  assert.match(error.message, sentence)
  assert.doesNotMatch(error.message, /\n/)
  return true
}

test("highlights are the bytes of the question's words", async () => {
  const collection = await words()
  const [hit] = await collection.search('swelling of a sodium cathode', { highlight: true })
  assert.deepEqual([hit.chunk.documentId, marked(hit)], ['a', ['sodium', 'cathodes', 'swell']])
  for (const { highlights } of await collection.search('cathode')) assert.equal(highlights, undefined)
})

test('words match as the search asks', async () => {
  const collection = await words()
  assert.deepEqual(await collection.search('cathdoes'), [])
  assert.deepEqual(ids(await collection.search('cathdoes', { fuzzy: true })).sort(), ['a', 'b'])
  const [hit] = await collection.search('https://example.org/guide', { exactFirst: true })
  assert.deepEqual([hit.chunk.documentId, hit.explanation.stage], ['c', 'exact'])
  assert.deepEqual(ids(await collection.search('cathodes -lithium', { expression: true })), ['a'])
  assert.deepEqual(ids(await collection.search('(wells OR lithium) NOT salt', { expression: true })), ['c'])
  const score = async (options) => (await collection.search('sodium cathodes', options)).find(({ chunk }) => chunk.documentId === 'a').score
  assert.ok((await score({ phrases: true })) > (await score()) + 0.01)
  assert.equal(await score({ phrases: false, fuzzy: undefined }), await score())
})

test('a hit stands for what the search asks for', async () => {
  const text = Array.from({ length: 60 }, (_, line) => `Sentence ${line} of wells in the report. `).join('')
  const collection = await Collection.inMemory({ embedder: null, chunks: { maxTokens: 20, overlapTokens: 4 } })
  await collection.add([{ id: 'long', text }, { id: 'short', text: 'A note on wells.' }])
  assert.equal(new Set(ids(await collection.search('report wells', { unit: 'chunk' }))).size, 1)
  assert.deepEqual(ids(await collection.search('report wells', { unit: 'best_chunk' })).sort(), ['long', 'short'])
  const hits = await collection.search('Sentence 37 report', { unit: 'document', highlight: true })
  const whole = hits.find(({ chunk }) => chunk.documentId === 'long')
  assert.deepEqual([whole.chunk.text, whole.chunk.span], [text, { start: 0, end: text.length }])
  assert.ok(marked(whole).includes('37'))
})

test('relevance compares between questions, and diversity moves copies down', async () => {
  const collection = await Collection.inMemory({ embedder })
  await collection.add([...wells, { id: 'copy', text: 'Sodium cathodes swell in summer.' }])
  const question = 'sodium cathodes swell in summer'
  const [best] = await collection.search(question, { minRelevance: 0.38 })
  assert.ok(best.explanation.relevance >= 0.38 && best.explanation.weightedCoverage > 0.99)
  assert.deepEqual(await collection.search('Who won the football match on Sunday?', { minRelevance: 0.38 }), [])
  assert.deepEqual(ids(await collection.search(question, { topK: 2 })).sort(), ['a', 'copy'])
  const [first, second] = await collection.search(question, { topK: 2, diversity: 0.9 })
  assert.ok(['a', 'copy'].includes(first.chunk.documentId) && ['b', 'c'].includes(second.chunk.documentId))
  assert.equal(second.explanation.stage, 'diverse')
})

test('what no search can be asked for is told in a sentence', async () => {
  const collection = await words()
  for (const [options, sentence] of [
    [{ unit: 'page' }, /best_chunk/],
    [{ phrases: 'yes' }, /^phrases: pass true or false$/],
    [{ highlight: 1 }, /^highlight: pass true or false$/],
    [{ minRelevance: 'much' }, /^minRelevance: pass a number$/],
    [{ diversity: NaN }, /^diversity: pass a number$/],
    [{ minRelevance: 1.5 }, /between 0 and 1/],
    [{ diversity: -1 }, /between 0 and 1/],
    [{ exact: true }, /there is no option `exact`/],
  ]) {
    await assert.rejects(collection.search('cathodes', options), refused(sentence))
  }
  await assert.rejects(collection.search('tenant:local', { expression: true }), refused(/`title`, `heading` or `text`/))
})

test('a search explains how it was done', async () => {
  const collection = await Collection.inMemory({ embedder })
  await collection.add(wells)
  const explained = await collection.explain('deep wells', { filter: Filter.documents(['b', 'c']), topK: 1 })
  assert.deepEqual([ids(explained.hits), explained.allowed, explained.hits[0].place], [['c'], 2, 'https://example.org/Guide'])
  const [{ vectors, allowed, strategy, isExact }, ...rest] = explained.segments
  assert.deepEqual([vectors, allowed, strategy, isExact, rest], [3, 2, 'scan', true, []])
  assert.deepEqual((await collection.explain('wells', { mode: 'lexical' })).segments, [])
})

test('what is kept of vectors and how they compare is fixed when the index is made', async (t) => {
  const bytes = []
  for (const storage of ['codes', 'int16', 'f32']) {
    const collection = await Collection.inMemory({ embedder, storage })
    await collection.add(wells)
    bytes.push((await collection.indexStats()).vectorBytes)
  }
  assert.ok(bytes[0] < bytes[1] && bytes[1] < bytes[2], `${bytes}`)
  const path = join(await folder(t), 'dot')
  const made = await Collection.open(path, { embedder, storage: 'f32', metric: 'dot' })
  await made.add(wells)
  assert.deepEqual(ids(await made.search('deep wells', { topK: 1 })), ['c'])
  assert.equal(await (await Collection.open(path, { embedder })).count(), 3)
  await assert.rejects(Collection.open(path, { embedder, storage: 'codes' }), refused(/storage.*made with f32/))
  await assert.rejects(Collection.open(path, { embedder, metric: 'cosine' }), refused(/metric.*made with dot/))
  await assert.rejects(Collection.inMemory({ embedder, storage: 'f16' }), refused(/`int16`/))
  await assert.rejects(Collection.inMemory({ embedder, metric: 'manhattan' }), refused(/`l2`/))
  await assert.rejects(Collection.inMemory({ embedder, storage: 'f32', codesOnly: true }), refused(/pass one of the two/))
})

test('a document that cannot be added is told, and the others are in', async () => {
  const collection = await Collection.inMemory({ embedder: null })
  const events = []
  const report = await collection.add([wells[0], { id: '', text: 'It has no id.' }, wells[1]], { onProgress: (event) => events.push(event) })
  const [failed, ...others] = report.failed
  assert.deepEqual([failed.documentId, failed.error.code, others], ['', 'invalid_input', []])
  assert.match(failed.error.message, /document id/)
  assert.deepEqual(events.filter(({ type }) => type === 'failed'), [{ type: 'failed', ...failed }])
  assert.deepEqual([report.progress.documentsAdded, report.progress.documentsFailed, await collection.count()], [2, 1, 2])
  const stopped = collection.add([{ id: '', text: 'It has no id.' }, wells[2]], { stopsAtError: true })
  await assert.rejects(stopped, refused(/document id/))
  assert.equal(await collection.count(), 2)
})

test('an add tells its pace and what it did not embed again', async () => {
  const collection = await Collection.inMemory({ embedder })
  const events = []
  const { progress } = await collection.add(wells, { chunksPerCommit: 1, onProgress: (event) => events.push(event) })
  assert.ok(progress.elapsedMs > 0 && progress.elapsedMs < 600_000 && progress.chunksReused === 0)
  assert.ok(events.some(({ chunksPerSecond }) => chunksPerSecond > 0))
  assert.equal(events.at(-1).remainingMs, 0)
  const twins = await collection.add(['x', 'y'].map((id) => ({ id, text: 'Herons fish at dawn.' })))
  assert.deepEqual([twins.progress.chunks, twins.progress.chunksReused, twins.progress.chunksCached], [2, 1, 0])
})

test('a plan says what a sync will do, and a moved file is not embedded again', async (t) => {
  const base = await folder(t)
  const files = join(base, 'files')
  await mkdir(files)
  for (const name of ['stays', 'moves', 'goes', 'changes']) await writeFile(join(files, `${name}.md`), `# ${name}\n\nThe file that ${name}.\n`)
  const collection = await Collection.open(join(base, 'index'), { embedder })
  const first = await collection.planSync(files)
  assert.deepEqual(first.added.toSorted(), ['changes.md', 'goes.md', 'moves.md', 'stays.md'])
  assert.equal(await collection.count(), 0)
  assert.deepEqual((await collection.sync(files)).added, first.added)
  await rename(join(files, 'moves.md'), join(files, 'moved.md'))
  await rm(join(files, 'goes.md'))
  await writeFile(join(files, 'changes.md'), '# changes\n\nIt changed.\n')
  await writeFile(join(files, 'broken.pdf'), '%PDF-1.7 nothing')
  const { skipped, unchanged, ...plan } = await collection.planSync([files])
  assert.deepEqual(plan, { added: [], updated: ['changes.md'], renamed: [{ from: 'moves.md', to: 'moved.md' }], removed: ['goes.md'] })
  assert.deepEqual([unchanged, skipped.map(({ uri }) => uri.endsWith('broken.pdf'))], [1, [true]])
  assert.deepEqual((await collection.planSync(files, { removes: false })).removed, [])
  const { progress, skipped: _, ...report } = await collection.sync(files)
  assert.deepEqual(report, plan)
  assert.ok(progress.filesRenamed === 1 && progress.chunksReused >= 1)
  await rm(files, { recursive: true })
  await mkdir(files)
  await assert.rejects(collection.sync(files), InvalidInputError)
  assert.equal((await collection.sync(files, { allowsEmpty: true })).removed.length, 3)
  await assert.rejects(collection.planSync(join(base, 'nowhere')), NotFoundError)
  await assert.rejects(collection.planSync(files, { removed: true }), refused(/there is no option `removed`/))
})

test('the whole of a document is proved to be in its chunks', async () => {
  const text = Array.from({ length: 40 }, (_, line) => `Line ${line} tells of herons. `).join('')
  const collection = await Collection.inMemory({ embedder: null, chunks: { maxTokens: 20, overlapTokens: 0 } })
  await collection.add({ id: 'herons.md', text })
  const { chunks, ...coverage } = await collection.coverage('herons.md')
  assert.deepEqual(coverage, { documentId: 'herons.md', textBytes: text.length, gaps: [], isNumbered: true, isWhole: true })
  assert.ok(chunks > 5 && chunks === (await collection.count()))
  await assert.rejects(collection.coverage('nobody'), NotFoundError)
  await assert.rejects(collection.coverage(), refused(/documentId/))
})

test('a search says which vector field it means', async (t) => {
  const path = await folder(t)
  const vectorFields = { far: { embedder, metric: 'l2', storage: 'codes' }, same: embedder }
  const collection = await Collection.open(path, { embedder, vectorFields })
  await collection.add(wells)
  const raw = async (vectorField) => {
    const [hit] = await collection.search('swelling cathodes', { mode: 'dense', vectorField })
    assert.equal(hit.chunk.documentId, 'a')
    return hit.explanation.dense.raw
  }
  const cosine = await raw()
  // Of vectors of length 1 the square of the distance is 2 - 2 cos.
  assert.ok(Math.abs((await raw('far')) - (2 * cosine - 2)) < 0.02)
  assert.equal(await raw('same'), cosine)
  const [vector] = await embedder.embed(['deep holes'])
  const hits = await collection.search('', { mode: 'dense', vector, vectorField: 'far' })
  assert.equal(ids(hits)[0], 'c')
  const { vectorFields: stats } = await collection.stats()
  assert.deepEqual(stats.map((field) => [field.name, field.vectors, field.dimension]), [['far', 3, 384], ['same', 3, 384]])
  await assert.rejects(collection.search('wells', { vectorField: 'near' }), refused(/no vector field `near`/))
  await assert.rejects(Collection.inMemory({ vectorFields: { far: 'minilm' } }), refused(/pass an embedder/))
  await assert.rejects(Collection.inMemory({ vectorFields: { 'a b': embedder } }), refused(/letters, digits/))
  await assert.rejects(Collection.open(path, { embedder, vectorFields: { far: embedder, gone: embedder } }), refused(/no vector field `gone`/))
})
