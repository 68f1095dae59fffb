// Collections: the journey in a folder, with the embedder that is inside the package.
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { Agent, Collection, EmbedderMismatchError, Extractive, Filter, ForeignError, InvalidInputError, MiniLm, NotFoundError, Scripted, retrieverTool } from 'stepwell'

const embedder = new MiniLm()
const papers = [
  { id: 'cathodes.md', text: 'Sodium cathodes swell when they are charged.', title: 'Cathodes', metadata: { year: 2024, field: 'chemistry' } },
  { id: 'cats.md', text: 'Cats sleep for most of the day.', metadata: { year: 2019, field: 'zoology' } },
  { id: 'ledgers.md', text: 'A ledger is a book of accounts that only grows.', metadata: { year: 2021, field: 'history' } },
]

async function folder(t) {
  const path = await mkdtemp(join(tmpdir(), 'stepwell-'))
  t.after(() => rm(path, { recursive: true, force: true }))
  return path
}

test('documents are added with progress, found, deleted, and are there when the folder is opened again', async (t) => {
  const path = join(await folder(t), 'index')
  const collection = await Collection.open(path, { embedder })
  const events = []
  const report = await collection.add([...papers, { id: 'empty', text: ' ' }], { onProgress: (event) => events.push(event) })
  assert.deepEqual([report.progress.documentsAdded, report.progress.documentsSkipped, report.progress.commits], [3, 1, 1])
  assert.deepEqual(report.skipped, [{ documentId: 'empty', reason: 'it has no text' }])
  assert.deepEqual(events.filter(({ type }) => type === 'skipped'), [{ type: 'skipped', documentId: 'empty', reason: 'it has no text' }])
  assert.deepEqual(events.filter(({ type }) => type === 'progress').at(-1), { type: 'progress', ...report.progress })

  const [hit] = await collection.search('which material expands?', { topK: 1 })
  assert.deepEqual([hit.chunk.documentId, hit.chunk.metadata, hit.explanation.stage], ['cathodes.md', papers[0].metadata, 'fused'])
  assert.equal(hit.chunk.text, papers[0].text)
  assert.match(hit.place, /Cathodes|cathodes/)
  assert.equal((await collection.add(papers)).progress.documentsUnchanged, 3)

  const again = await Collection.open(path, { embedder })
  assert.deepEqual((await again.documents()).map(({ id }) => id), ['cathodes.md', 'cats.md', 'ledgers.md'])
  assert.equal(await again.delete('cats.md'), 1)
  assert.equal(await again.delete(['cats.md', 'nobody']), 0)
  assert.deepEqual((await again.search('sleeping animals')).map(({ chunk }) => chunk.documentId).includes('cats.md'), false)
  await again.compact()
  await again.verify()
  const stats = await again.stats()
  assert.deepEqual([stats.documents, stats.vectors, stats.dimension], [2, 2, 384])
  const sizes = await again.indexStats()
  assert.deepEqual([sizes.segments, sizes.chunks, sizes.deletedChunks], [1, 2, 0])
  await assert.rejects(Collection.open(path, { embedder, language: 'german' }), InvalidInputError)
})

test('filters, modes and tenants', async () => {
  const collection = await Collection.inMemory({ embedder })
  await collection.add(papers)
  const found = async (filter) => (await collection.search('anything', { filter })).map(({ chunk }) => chunk.documentId).sort()
  assert.deepEqual(await found(Filter.eq('year', 2024)), ['cathodes.md'])
  assert.deepEqual(await found(Filter.range('year', { min: 2020 })), ['cathodes.md', 'ledgers.md'])
  assert.deepEqual(await found(Filter.isIn('field', ['zoology', 'history'])), ['cats.md', 'ledgers.md'])
  assert.deepEqual(await found(Filter.and(Filter.exists('year'), Filter.not(Filter.prefix('field', 'ch')))), ['cats.md', 'ledgers.md'])
  assert.deepEqual(await found(Filter.or(Filter.documents(['cats.md']), Filter.eq('year', 2021))), ['cats.md', 'ledgers.md'])
  assert.equal(await collection.count(Filter.eq('year', 2024)), 1)
  assert.equal(await collection.count(), 3)
  const [lexical] = await collection.search('ledger', { mode: 'lexical' })
  assert.deepEqual([lexical.chunk.documentId, lexical.explanation.stage], ['ledgers.md', 'lexical'])
  const [vector] = await embedder.embed(['a book of accounts'], { kind: 'query' })
  assert.equal(vector.length, 384)
  assert.equal((await collection.search('x', { mode: 'dense', vector }))[0].chunk.documentId, 'ledgers.md')
  assert.equal(await collection.deleteWhere(Filter.eq('field', 'history')), 1)

  const other = collection.scoped('other')
  assert.deepEqual(await other.search('cathodes'), [])
  await other.add({ id: 'cats.md', text: 'Another tenant, the same id.' })
  assert.equal((await collection.search('cats', { topK: 1 }))[0].chunk.text, papers[1].text)
})

test('a folder of files is kept in step', async (t) => {
  const [files, path] = [await folder(t), join(await folder(t), 'index')]
  await writeFile(join(files, 'one.md'), '# Runs\n\nA run resumes from its journal.\n')
  await writeFile(join(files, 'two.html'), '<h1>Stock</h1><p>Twelve boxes of paper.</p>')
  await writeFile(join(files, 'broken.pdf'), '%PDF-1.7 nothing')
  const collection = await Collection.open(path, { embedder })
  const seen = []
  const report = await collection.sync(files, { onProgress: ({ type }) => seen.push(type) })
  assert.deepEqual([report.progress.filesAdded, report.skipped.length], [2, 1])
  assert.ok(seen.includes('progress') && seen.includes('skipped'))
  const [hit] = await collection.search('how does a run resume?', { topK: 1 })
  assert.deepEqual([hit.chunk.documentId, hit.chunk.headings], ['one.md', ['Runs']])
  await rm(join(files, 'two.html'))
  assert.deepEqual((await collection.sync([files])).removed, ['two.html'])
  await assert.rejects(collection.sync(join(files, 'nowhere')), NotFoundError)
})

test('an agent answers from a collection with exact quotes', async () => {
  const collection = await Collection.inMemory({ embedder })
  await collection.add(papers)
  const agent = new Agent(await Extractive.create({ embedder }), { tools: [retrieverTool('search', collection, { about: 'Papers.' })] })
  const result = await agent.run('What do sodium cathodes do when they are charged?')
  assert.match(result.answer, /swell/)
  const [citation] = result.citations
  assert.equal(citation.documentId, 'cathodes.md')
  assert.equal(Buffer.from(papers[0].text).subarray(citation.span.start, citation.span.end).toString(), citation.quote)
  assert.equal(result.hits[0].chunk.documentId, 'cathodes.md')
  const script = new Scripted().say('x')
  await new Agent(script, { tools: [retrieverTool('papers', collection)] }).run('x')
  assert.equal(script.requests[0].tools[0].name, 'papers')
})

test('an aborted add keeps the collection whole, and a throwing callback gives its own error', async (t) => {
  const collection = await Collection.open(join(await folder(t), 'index'), { embedder })
  const many = Array.from({ length: 400 }, (_, n) => ({ id: `d${n}`, text: `Document number ${n} tells of ${'many words '.repeat(n % 50)}.` }))
  const controller = new AbortController()
  const why = new Error('enough')
  await assert.rejects(
    collection.add(many, { signal: controller.signal, chunksPerCommit: 50, onProgress: ({ commits }) => commits >= 1 && controller.abort(why) }),
    (error) => error === why,
  )
  const kept = (await collection.documents()).length
  assert.ok(kept >= 50 && kept < 400, `${kept}`)
  const boom = new Error('boom')
  await assert.rejects(collection.add(many, { onProgress: () => { throw boom } }), (error) => error === boom)
  const report = await collection.add(many)
  assert.deepEqual([report.progress.documentsDone, (await collection.documents()).length], [400, 400])
  assert.ok(report.progress.documentsUnchanged >= kept)
})

test('what cannot be opened is told by code', async (t) => {
  const path = await folder(t)
  const words = join(path, 'words')
  await (await Collection.open(words, { embedder: null })).add(papers)
  await assert.rejects(Collection.open(words, { embedder }), EmbedderMismatchError)
  await writeFile(join(path, 'letter.txt'), 'not an index')
  await assert.rejects(Collection.open(path), ForeignError)
  await assert.rejects(Collection.open(), InvalidInputError)
  await assert.rejects(Collection.inMemory({ language: 'klingon' }), NotFoundError)
  await assert.rejects(Collection.inMemory({ embedder: {} }), InvalidInputError)
  const open = await Collection.inMemory({ embedder })
  await assert.rejects(open.add({ text: 'no id' }), InvalidInputError)
  await assert.rejects(open.search(''), (error) => error.code === 'invalid_input')
})
