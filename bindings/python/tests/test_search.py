"""What a search may be asked for beside its question, and what a collection tells of itself."""

from __future__ import annotations

import pickle

import pytest
import stepwell
from stepwell import Document, Filter


@pytest.fixture
def wells():
    return [
        Document("a", "Ähnlich: sodium cathodes swell in summer.", title="Cathodes"),
        Document("b", "Cathodes of lithium, and sodium in the sea.", title="Salt"),
        Document("c", "Wells are deep.", title="The Guide", uri="https://example.org/Guide"),
    ]


@pytest.fixture
def words(wells):
    collection = stepwell.Collection.in_memory(embedder=None)
    collection.add_sync(wells)
    return collection


def ids(hits):
    return [hit.chunk.document_id for hit in hits]


def marked(hit):
    text = hit.text.encode()
    return [text[span.start : span.end].decode() for span in hit.highlights]


def test_highlights_are_the_bytes_of_the_questions_words(words):
    (hit, *_) = words.search_sync("swelling of a sodium cathode", highlight=True)
    assert hit.chunk.document_id == "a" and marked(hit) == ["sodium", "cathodes", "swell"]
    assert pickle.loads(pickle.dumps(hit)) == hit
    assert stepwell.Hit.from_dict(hit.to_dict()) == hit
    assert all(hit.highlights == [] for hit in words.search_sync("cathode"))


def test_words_match_as_the_search_asks(words):
    assert words.search_sync("cathdoes") == []
    assert sorted(ids(words.search_sync("cathdoes", fuzzy=True))) == ["a", "b"]
    (hit, *_) = words.search_sync("https://example.org/guide", exact_first=True)
    assert (hit.chunk.document_id, hit.explanation.stage) == ("c", "exact")
    assert ids(words.search_sync("cathodes -lithium", expression=True)) == ["a"]
    assert ids(words.search_sync("(wells OR lithium) NOT salt", expression=True)) == ["c"]
    score = lambda **options: {hit.chunk.document_id: hit.score for hit in words.search_sync("sodium cathodes", **options)}  # noqa: E731
    assert score(phrases=True)["a"] > score()["a"] + 0.01
    assert score(phrases=False, fuzzy=None) == score()


def test_a_hit_stands_for_what_the_search_asks_for(run):
    text = "".join(f"Sentence {line} of wells in the report. " for line in range(60))
    collection = stepwell.Collection.in_memory(embedder=None, chunks={"max_tokens": 20, "overlap_tokens": 4})
    collection.add_sync([Document("long", text), Document("short", "A note on wells.")])
    assert len(set(ids(collection.search_sync("report wells", unit="chunk")))) == 1
    assert sorted(ids(collection.search_sync("report wells", unit="best_chunk"))) == ["long", "short"]

    async def whole():
        return await collection.search("Sentence 37 report", unit="document", highlight=True)

    (hit,) = [hit for hit in run(whole()) if hit.chunk.document_id == "long"]
    assert hit.text == text and (hit.chunk.span.start, hit.chunk.span.end) == (0, len(text))
    assert "37" in marked(hit)


def test_relevance_compares_between_questions_and_diversity_moves_copies_down(wells):
    collection = stepwell.Collection.in_memory()
    collection.add_sync([*wells, Document("copy", "Sodium cathodes swell in summer.")])
    question = "sodium cathodes swell in summer"
    (best, *_) = collection.search_sync(question, min_relevance=0.38)
    assert best.explanation.relevance is not None and best.explanation.relevance >= 0.38
    assert best.explanation.weighted_coverage == pytest.approx(1.0)
    assert collection.search_sync("Who won the football match on Sunday?", min_relevance=0.38) == []
    assert set(ids(collection.search_sync(question, top_k=2))) == {"a", "copy"}
    (first, second) = collection.search_sync(question, top_k=2, diversity=0.9)
    assert first.chunk.document_id in ("a", "copy") and second.chunk.document_id in ("b", "c")
    assert second.explanation.stage == "diverse"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"unit": "page"}, "best_chunk"),
        ({"phrases": "yes"}, "phrases: pass True or False"),
        ({"highlight": 1}, "highlight: pass True or False"),
        ({"min_relevance": "much"}, "min_relevance: pass a number"),
        ({"min_relevance": 1.5}, "min_relevance.*between 0 and 1"),
        ({"diversity": -1}, "diversity.*between 0 and 1"),
        ({"exact": True}, "`exact` is no option"),
    ],
)
def test_what_no_search_can_be_asked_for_is_told_in_a_sentence(words, options, sentence):
    with pytest.raises(stepwell.InvalidInputError, match=sentence) as failure:
        words.search_sync("cathodes", **options)
    assert "\n" not in str(failure.value)


def test_an_expression_with_an_unknown_field_is_refused(words):
    with pytest.raises(stepwell.InvalidInputError, match="`title`, `heading` or `text`"):
        words.search_sync("tenant:local", expression=True)


def test_a_search_explains_how_it_was_done(run, wells):
    collection = stepwell.Collection.in_memory()
    collection.add_sync(wells)
    explained = run(collection.explain("deep wells", filter=Filter.documents(["b", "c"]), top_k=1))
    assert ids(explained.hits) == ["c"] and explained.allowed == 2
    (segment,) = explained.segments
    assert (segment.vectors, segment.allowed, segment.strategy, segment.is_exact) == (3, 2, "scan", True)
    assert collection.explain_sync("wells", mode="lexical").segments == []


def test_what_is_kept_of_vectors_and_how_they_compare_is_fixed_when_the_index_is_made(tmp_path, wells):
    bytes_of = {}
    for storage in ("codes", "int16", "f32"):
        collection = stepwell.Collection.in_memory(storage=storage)
        collection.add_sync(wells)
        bytes_of[storage] = collection.index_stats_sync().vector_bytes
    assert bytes_of["codes"] < bytes_of["int16"] < bytes_of["f32"]
    made = stepwell.Collection.open_sync(tmp_path / "dot", storage="f32", metric="dot")
    made.add_sync(wells)
    assert ids(made.search_sync("deep wells", top_k=1)) == ["c"]
    assert stepwell.Collection.open_sync(tmp_path / "dot").count_sync() == 3
    with pytest.raises(stepwell.InvalidInputError, match="storage.*made with f32"):
        stepwell.Collection.open_sync(tmp_path / "dot", storage="codes")
    with pytest.raises(stepwell.InvalidInputError, match="metric.*made with dot"):
        stepwell.Collection.open_sync(tmp_path / "dot", metric="cosine")
    with pytest.raises(stepwell.InvalidInputError, match="`int16`"):
        stepwell.Collection.in_memory(storage="f16")  # type: ignore[arg-type]
    with pytest.raises(stepwell.InvalidInputError, match="`l2`"):
        stepwell.Collection.in_memory(metric="manhattan")  # type: ignore[arg-type]
    with pytest.raises(stepwell.InvalidInputError, match="pass one of the two"):
        stepwell.Collection.in_memory(storage="f32", codes_only=True)


def test_a_document_that_cannot_be_added_is_told_and_the_others_are_in(run, wells):
    collection = stepwell.Collection.in_memory(embedder=None)
    events = []
    report = run(collection.add([wells[0], Document("", "It has no id."), wells[1]], progress=events.append))
    (failed,) = report.failed
    assert (failed.document_id, failed.error.code) == ("", "invalid_input") and "document id" in failed.error.message
    assert [event for event in events if event.type == "failed"] == [failed]
    assert (report.progress.documents_added, report.progress.documents_failed) == (2, 1)
    assert pickle.loads(pickle.dumps(report)) == report
    assert collection.count_sync() == 2
    with pytest.raises(stepwell.InvalidInputError, match="document id"):
        collection.add_sync([Document("", "It has no id."), wells[2]], stops_at_error=True)
    assert collection.count_sync() == 2


def test_an_add_tells_its_pace_and_what_it_did_not_embed_again(wells):
    collection = stepwell.Collection.in_memory()
    events = []
    progress = collection.add_sync(wells, progress=events.append, chunks_per_commit=1).progress
    assert 0 < progress.elapsed < 600 and progress.chunks_reused == 0
    paces = [event.chunks_per_second for event in events if event.type == "progress"]
    assert any(pace is not None and pace > 0 for pace in paces)
    assert events[-1].remaining == 0
    twins = collection.add_sync([Document("x", "Herons fish at dawn."), Document("y", "Herons fish at dawn.")]).progress
    assert (twins.chunks, twins.chunks_reused, twins.chunks_cached) == (2, 1, 0)


def test_a_plan_says_what_a_sync_will_do_and_a_moved_file_is_not_embedded_again(run, tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    for name in ("stays", "moves", "goes", "changes"):
        (files / f"{name}.md").write_text(f"# {name}\n\nThe file that {name}.\n")
    collection = stepwell.Collection.open_sync(tmp_path / "index")
    plan = collection.plan_sync_sync(files)
    assert sorted(plan.added) == ["changes.md", "goes.md", "moves.md", "stays.md"]
    assert collection.count_sync() == 0
    assert collection.sync_sync(files).added == plan.added
    (files / "moves.md").rename(files / "moved.md")
    (files / "goes.md").unlink()
    (files / "changes.md").write_text("# changes\n\nIt changed.\n")
    (files / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    plan = run(collection.plan_sync(files))
    assert (plan.added, plan.updated, plan.removed, plan.unchanged) == ([], ["changes.md"], ["goes.md"], 1)
    assert plan.renamed == [stepwell.RenamedFile(from_="moves.md", to="moved.md")]
    assert [file.uri.endswith("broken.pdf") for file in plan.skipped] == [True]
    kept = run(collection.plan_sync(files, removes=False))
    assert kept.removed == []
    report = collection.sync_sync(files)
    assert (report.added, report.updated, report.removed) == (plan.added, plan.updated, plan.removed)
    assert report.renamed == plan.renamed and report.progress.files_renamed == 1
    assert report.progress.chunks_reused >= 1
    for file in files.iterdir():
        file.unlink()
    with pytest.raises(stepwell.InvalidInputError):
        collection.sync_sync(files)
    assert len(collection.sync_sync(files, allows_empty=True).removed) == 3
    with pytest.raises(stepwell.NotFoundError):
        collection.plan_sync_sync(tmp_path / "nowhere")


def test_the_whole_of_a_document_is_proved_to_be_in_its_chunks(run):
    text = "".join(f"Line {line} tells of herons. " for line in range(40))
    collection = stepwell.Collection.in_memory(embedder=None, chunks={"max_tokens": 20, "overlap_tokens": 0})
    collection.add_sync(Document("herons.md", text))
    coverage = run(collection.coverage("herons.md"))
    assert coverage.is_whole and coverage.is_numbered and coverage.gaps == []
    assert coverage.text_bytes == len(text) and coverage.chunks == collection.count_sync() > 5
    with pytest.raises(stepwell.NotFoundError, match="nobody"):
        collection.coverage_sync("nobody")


def test_a_search_says_which_vector_field_it_means(tmp_path, wells):
    embedder = stepwell.MiniLm()
    fields = {"far": stepwell.VectorField(embedder, metric="l2", storage="codes"), "same": embedder}
    collection = stepwell.Collection.open_sync(tmp_path / "index", vector_fields=fields)
    collection.add_sync(wells)
    raw = {}
    for field in (None, "far", "same"):
        (hit, *_) = collection.search_sync("swelling cathodes", mode="dense", vector_field=field)
        assert hit.chunk.document_id == "a"
        raw[field] = hit.explanation.dense.raw
    # Of vectors of length 1 the square of the distance is 2 - 2 cos.
    assert raw["far"] == pytest.approx(2 * raw[None] - 2, abs=0.02) and raw["same"] == raw[None]
    (vector,) = embedder.embed_sync(["deep holes"])
    assert ids(collection.search_sync("", mode="dense", vector=vector, vector_field="far"))[0] == "c"
    stats = collection.stats_sync()
    assert [(field.name, field.vectors, field.dimension) for field in stats.vector_fields] == [
        ("far", 3, 384),
        ("same", 3, 384),
    ]
    with pytest.raises(stepwell.InvalidInputError, match="no vector field `near`"):
        collection.search_sync("wells", vector_field="near")
    for given, sentence in [({"far": "minilm"}, "pass an Embedder"), ({"a b": embedder}, "letters, digits")]:
        with pytest.raises(stepwell.InvalidInputError, match=sentence):
            stepwell.Collection.in_memory(vector_fields=given)
    with pytest.raises(stepwell.InvalidInputError, match="metric"):
        stepwell.Collection.open_sync(tmp_path / "index", vector_fields={"far": stepwell.VectorField(embedder, metric="dot")})
