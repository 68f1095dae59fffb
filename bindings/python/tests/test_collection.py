"""A collection in a temporary folder, with the embedder in process."""

from __future__ import annotations

import asyncio
import pickle

import pytest
import stepwell
from stepwell import Document, Filter


@pytest.fixture
def notes():
    return [
        Document("cathodes.md", "Sodium cathodes swell when they are charged.", metadata={"year": 2024, "tags": ["cell"]}),
        Document("bread.md", "Dough rests for an hour before it goes into the oven.", title="Bread", metadata={"year": 2020}),
        Document("runs.md", "A run that was interrupted resumes from its journal.", uri="docs/runs.md"),
    ]


def test_documents_are_added_found_and_deleted(run, tmp_path, notes):
    async def main():
        collection = await stepwell.Collection.open(tmp_path / "notes")
        events = []
        report = await collection.add(notes, progress=events.append)
        assert report.progress.documents_added == 3 and report.skipped == []
        assert isinstance(events[-1], stepwell.AddProgress)
        assert events[-1].documents_done == 3 and events[-1].commits >= 1
        hits = await collection.search("how does an aborted job continue?", top_k=2)
        assert len(hits) == 2 and hits[0].chunk.document_id == "runs.md"
        assert hits[0].chunk.place == "docs/runs.md"
        assert hits[0].explanation.dense is not None and hits[0].explanation.dense.rank == 1
        assert pickle.loads(pickle.dumps(hits)) == hits
        again = await collection.add(notes, progress=events.append)
        assert again.progress.documents_unchanged == 3 and again.progress.chunks == 0
        assert events[-1] == stepwell.DocumentSkipped(document_id="runs.md", reason="unchanged")
        assert await collection.delete(["runs.md", "nothing"]) == 1
        assert [entry.id for entry in await collection.documents()] == ["bread.md", "cathodes.md"]
        stats = await collection.stats()
        assert (stats.documents, stats.vectors, stats.dimension) == (2, 2, 384)
        sizes = await collection.index_stats()
        assert (sizes.chunks, sizes.segments > 0, sizes.bytes > sizes.vector_bytes > 0) == (2, True, True)
        await collection.verify()
        await collection.compact()
        return await collection.count()

    assert run(main(), timeout=120) == 2
    reopened = stepwell.Collection.open_sync(tmp_path / "notes")
    assert reopened.search_sync("what swells?", top_k=1)[0].text.startswith("Sodium cathodes")


def test_filters_choose_what_may_be_found(notes):
    collection = stepwell.Collection.in_memory(embedder=None)
    collection.add_sync(notes)
    ids = lambda hits: {hit.chunk.document_id for hit in hits}  # noqa: E731
    every = "cathodes dough run"
    assert ids(collection.search_sync(every)) == {"cathodes.md", "bread.md", "runs.md"}
    assert ids(collection.search_sync(every, filter=Filter.range("year", 2021, None))) == {"cathodes.md"}
    assert ids(collection.search_sync(every, filter=Filter.eq("tags", "cell"))) == {"cathodes.md"}
    assert ids(collection.search_sync(every, filter=~Filter.exists("year"))) == {"runs.md"}
    either = Filter.eq("year", 2020) | Filter.documents(["runs.md"])
    assert ids(collection.search_sync(every, filter=either, mode="lexical")) == {"bread.md", "runs.md"}
    assert collection.count_sync(Filter.is_in("year", [2020, 2024])) == 2
    assert collection.delete_where_sync(Filter.eq("year", 2020)) == 1
    with pytest.raises(stepwell.InvalidInputError, match="Filter"):
        collection.search_sync(every, filter={"year": 2020})  # type: ignore[arg-type]
    with pytest.raises(stepwell.InvalidInputError, match="topk"):
        collection.search_sync(every, topk=3)  # type: ignore[call-arg]


def test_a_tenant_sees_its_own_documents_only(notes):
    collection = stepwell.Collection.in_memory(embedder=None, tenant="acme")
    collection.add_sync(notes)
    other = collection.scoped("globex")
    assert other.search_sync("cathodes") == [] and other.count_sync() == 0
    other.add_sync(Document("cathodes.md", "Cathodes of another house."))
    assert collection.count_sync() == 3 and other.delete_sync(["cathodes.md"]) == 1
    assert collection.count_sync() == 3


@pytest.mark.parametrize("is_async", [True, False])
def test_what_the_progress_callback_raises_stops_the_add_and_reaches_the_caller(run, tmp_path, notes, is_async):
    class Enough(Exception):
        pass

    enough = Enough()

    def stop(_):
        raise enough

    collection = stepwell.Collection.open_sync(tmp_path / "notes", embedder=None)
    with pytest.raises(Enough) as failure:
        if is_async:
            run(collection.add(notes, progress=stop, chunks_per_commit=1))
        else:
            collection.add_sync(notes, progress=stop, chunks_per_commit=1)
    assert failure.value is enough
    assert collection.add_sync(notes).progress.documents_done == 3


def test_a_cancelled_add_leaves_a_usable_index(run, tmp_path):
    many = [Document(f"{n}.md", f"Paragraph {n}. " + "Words about nothing in particular. " * 40) for n in range(60)]

    async def main():
        collection = await stepwell.Collection.open(tmp_path / "many")
        committed = asyncio.Event()

        def watch(event):
            if event.type == "progress" and event.commits:
                committed.set()

        task = asyncio.ensure_future(collection.add(many, progress=watch, chunks_per_commit=4))
        await committed.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        kept = len(await collection.documents())
        assert 0 < kept < 60
        report = await collection.add(many[:20])
        assert report.progress.documents_unchanged >= min(kept, 20) - 4
        return len(await collection.documents())

    assert run(main(), timeout=300) >= 20


def test_bad_folders_and_bad_settings_are_told_in_one_sentence(tmp_path, notes):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter.txt").write_text("dear")
    with pytest.raises(stepwell.ForeignError):
        stepwell.Collection.open_sync(tmp_path / "foreign", embedder=None)
    made = stepwell.Collection.open_sync(tmp_path / "words", embedder=None)
    made.add_sync(notes)
    with pytest.raises(stepwell.EmbedderMismatchError):
        stepwell.Collection.open_sync(tmp_path / "words")
    with pytest.raises(stepwell.NotFoundError, match="klingon"):
        stepwell.Collection.open_sync(tmp_path / "x", embedder=None, language="klingon")
    with pytest.raises(stepwell.InvalidInputError, match="Document"):
        made.add_sync(["text"])  # type: ignore[list-item]
    with pytest.raises(stepwell.InvalidInputError):
        made.search_sync("   ")
    with pytest.raises(stepwell.InvalidInputError, match="list of document ids"):
        made.delete_sync("words")


def test_the_embedder_puts_like_next_to_like(run):
    embedder = stepwell.MiniLm()
    assert embedder.info.dimension == 384
    cat, kitten, tax = run(embedder.embed(["a cat", "a kitten", "income tax law"]), timeout=60)
    dot = lambda a, b: sum(x * y for x, y in zip(a, b))  # noqa: E731
    assert dot(cat, kitten) > dot(cat, tax) + 0.2
    assert embedder.embed_sync(["a cat"], kind="query")[0] == pytest.approx(cat, abs=1e-5)


def test_a_forked_child_opens_its_own_collection(program, tmp_path):
    code = f"""
import os, stepwell
parent = stepwell.Collection.open_sync({str(tmp_path / "c")!r})
parent.add_sync(stepwell.Document("a.md", "Sodium cathodes swell."))
pid = os.fork()
if pid == 0:
    try:
        parent.search_sync("swell")
    except stepwell.UnsupportedError:
        print("refused", flush=True)
    child = stepwell.Collection.open_sync({str(tmp_path / "c")!r})
    print(child.search_sync("what swells?")[0].chunk.document_id, flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
print(parent.search_sync("what swells?")[0].chunk.document_id)
"""
    ended = program(code, timeout=60)
    assert ended.out.splitlines() == ["refused", "a.md", "0", "a.md"], ended
