"""Collections: documents in, hits out."""

from __future__ import annotations

import os

from ._documents import Document, Filter, Hit
from ._embedders import Embedder, shared_minilm
from ._engine import native, refuse_on_background
from ._errors import InvalidInputError
from ._records import Failure, Record, Span, _many, _one

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, Literal, TypeAlias

    from typing_extensions import TypedDict, Unpack

    SearchMode: TypeAlias = Literal["hybrid", "lexical", "dense"]
    HitUnit: TypeAlias = Literal["chunk", "best_chunk", "document"]

    class CollectionOptions(TypedDict, total=False):
        """Settings of a collection. `language`, `storage`, `metric` and the embedder are fixed when the index is made.

        `storage` is what is kept of a vector: `int16` where nothing is said (2 bytes per dimension), `codes` alone (1,
        approximate scores; `codes_only=True` says the same) or `f32` (5, the vectors as they came). `metric` is `cosine`
        where nothing is said. `vector_fields` are more vectors for every chunk, each by its name with an embedder of its
        own; a search says with `vector_field` which one it means.
        """

        tenant: str | None
        actor: str | None
        language: str | None
        codes_only: bool | None
        storage: Literal["codes", "int16", "f32"] | None
        metric: Literal["cosine", "dot", "l2"] | None
        fusion: dict[str, dict[str, float]] | None
        chunks: dict[str, Any] | None
        vector_fields: Mapping[str, Embedder | VectorField] | None

    class SearchOptions(TypedDict, total=False):
        """What can be asked of a search beside the question.

        `min_relevance` leaves out hits below this relevance (0 to 1). `unit` is what one hit stands for: a chunk, the best
        chunk of a document, or a document. `diversity` moves hits down that are like those before them (0 to 1).
        `highlight` tells where the question's words stand. `phrases`, `fuzzy`, `exact_first` and `expression` say how
        words match: side by side counts more, a letter may be wrong, what is called so comes first, the text is an
        expression for experts. `vector_field` names the field that is searched by meaning; the first where nothing is said.
        """

        top_k: int
        filter: Filter | None
        mode: SearchMode
        min_score: float | None
        min_relevance: float | None
        vector: Sequence[float] | None
        vector_field: str | None
        unit: HitUnit
        diversity: float | None
        highlight: bool
        phrases: bool
        fuzzy: bool
        exact_first: bool
        expression: bool


class AddProgress(Record):
    """How far an `add` has come.

    `chunks_cached` and `chunks_reused` are those of the chunks that were not embedded anew. `elapsed` and `remaining`
    are seconds; `remaining` and `chunks_per_second` tell of the pace of late, `None` until it is known.
    """

    documents_total: int | None = None
    documents_done: int = 0
    documents_added: int = 0
    documents_updated: int = 0
    documents_unchanged: int = 0
    documents_skipped: int = 0
    documents_failed: int = 0
    chunks: int = 0
    chunks_cached: int = 0
    chunks_reused: int = 0
    tokens: int = 0
    commits: int = 0
    elapsed: float = 0.0
    chunks_per_second: float | None = None
    remaining: float | None = None
    type: Literal["progress"] = "progress"


class DocumentSkipped(Record):
    """A document was left out: `unchanged`, `empty` (it has no text) or `replaced` (a later one has its id)."""

    document_id: str
    reason: str
    type: Literal["skipped"] = "skipped"


class FailedDocument(Record):
    """A document could not be added; an older version of it still stands, and the others go on."""

    document_id: str
    error: Failure
    type: Literal["failed"] = "failed"
    _nested = {"error": _one(Failure)}


class AddReport(Record):
    """What an `add` did: `skipped` are the documents left out, but for unchanged ones, `failed` those that could not be added."""

    progress: AddProgress
    skipped: list[DocumentSkipped] = []
    failed: list[FailedDocument] = []
    _nested = {"progress": _one(AddProgress), "skipped": _many(DocumentSkipped), "failed": _many(FailedDocument)}


class SyncProgress(Record):
    """How far a `sync` has come; chunks and times as in `AddProgress`."""

    files_total: int = 0
    files_done: int = 0
    files_added: int = 0
    files_updated: int = 0
    files_renamed: int = 0
    files_unchanged: int = 0
    files_skipped: int = 0
    documents_removed: int = 0
    chunks: int = 0
    chunks_cached: int = 0
    chunks_reused: int = 0
    tokens: int = 0
    commits: int = 0
    elapsed: float = 0.0
    chunks_per_second: float | None = None
    remaining: float | None = None
    type: Literal["progress"] = "progress"


class FileSkipped(Record):
    """A file or folder cannot be read; the others go on."""

    uri: str
    reason: str
    type: Literal["skipped"] = "skipped"


class RenamedFile(Record):
    """A file that was moved: the id its document had (`from_`) and the one it has now (`to`)."""

    from_: str
    to: str


class SyncPlan(Record):
    """What a `sync` would do: ids of new, changed and deleted documents, moved files, what cannot be read."""

    added: list[str] = []
    updated: list[str] = []
    renamed: list[RenamedFile] = []
    removed: list[str] = []
    unchanged: int = 0
    skipped: list[FileSkipped] = []
    _nested = {"renamed": _many(RenamedFile), "skipped": _many(FileSkipped)}


class SyncReport(Record):
    """What a `sync` did: the counts, what could not be read, ids of documents that were deleted, new or changed.

    For a file that was only moved, which is in `renamed`, nothing was embedded.
    """

    progress: SyncProgress
    skipped: list[FileSkipped] = []
    removed: list[str] = []
    added: list[str] = []
    updated: list[str] = []
    renamed: list[RenamedFile] = []
    _nested = {"progress": _one(SyncProgress), "skipped": _many(FileSkipped), "renamed": _many(RenamedFile)}


class Coverage(Record):
    """How much of a document's text its stored chunks hold; `gaps` are bytes of it that are in none."""

    document_id: str
    chunks: int
    #: The length of its text, where its chunker covered all of it.
    text_bytes: int | None
    gaps: list[Span]
    #: Whether the chunks are numbered from 0, each once.
    is_numbered: bool
    #: Whether every byte of the text is proved to be in a chunk.
    is_whole: bool
    _nested = {"gaps": _many(Span)}


class SegmentSearch(Record):
    """How a segment of the index was searched by meaning, and why so."""

    vectors: int
    allowed: int
    strategy: str
    is_exact: bool
    reason: str
    ef: int
    compared: int


class Explained(Record):
    """An answer of a search with what was done for it.

    `segments` tells how large the parts of the index are, which all tenants share: for who runs it, not for a tenant.
    """

    hits: list[Hit]
    #: Chunks that tenant and filter let through.
    allowed: int
    segments: list[SegmentSearch]
    _nested = {"hits": _many(Hit), "segments": _many(SegmentSearch)}


class DocumentEntry(Record):
    """A document of a collection."""

    id: str
    content_hash: str
    chunks: int


class VectorField:
    """Another vector of every chunk: by an embedder of its own, compared and kept in its own way.

    `metric` is `cosine` and `storage` is `int16` where nothing is said.
    """

    def __init__(
        self,
        embedder: Embedder,
        *,
        metric: Literal["cosine", "dot", "l2"] | None = None,
        storage: Literal["codes", "int16", "f32"] | None = None,
    ) -> None:
        self.embedder = embedder
        self.metric = metric
        self.storage = storage


class VectorFieldStats(Record):
    """A vector field beside the first, and how many chunks of the tenant have a vector of it."""

    name: str
    vectors: int
    embedder: str
    dimension: int


class CollectionStats(Record):
    """What a collection holds of its tenant."""

    documents: int
    chunks: int
    vectors: int
    embedder: str | None
    dimension: int
    #: Its other vector fields.
    vector_fields: list[VectorFieldStats] = []
    _nested = {"vector_fields": _many(VectorFieldStats)}


class IndexStats(Record):
    """The size of the index, which all tenants share."""

    segments: int
    chunks: int
    deleted_chunks: int
    vectors: int
    bytes: int
    vector_bytes: int


if TYPE_CHECKING:
    AddEvent: TypeAlias = AddProgress | DocumentSkipped | FailedDocument
    SyncEvent: TypeAlias = SyncProgress | FileSkipped
    Paths: TypeAlias = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
else:
    AddEvent = AddProgress | DocumentSkipped | FailedDocument
    SyncEvent = SyncProgress | FileSkipped


class _Default:
    def __repr__(self) -> str:
        return "MiniLm()"


_MINILM = _Default()


def _opening(
    embedder: Embedder | None | _Default, options: CollectionOptions
) -> tuple[native.Embedder | None, list[native.Embedder], dict[str, Any]]:
    if isinstance(embedder, _Default):
        embedder = shared_minilm()
    settings: dict[str, Any] = dict(options)
    embedders: list[native.Embedder] = []
    fields: list[dict[str, Any]] = []
    for name, field in (settings.pop("vector_fields", None) or {}).items():
        given = field if isinstance(field, VectorField) else VectorField(field)
        if not isinstance(given.embedder, Embedder):
            raise InvalidInputError(f"vector_fields: pass an Embedder or a VectorField for `{name}`")
        embedders.append(given.embedder._native)
        fields.append({"name": name, "metric": given.metric, "storage": given.storage})
    settings["vector_fields"] = fields
    return (None if embedder is None else embedder._native), embedders, settings


def _documents(given: Document | Iterable[Document]) -> list[Document]:
    documents = [given] if isinstance(given, Document) else list(given)
    for document in documents:
        if not isinstance(document, Document):
            raise InvalidInputError(
                f"documents: a `{type(document).__name__}` is none; make it `Document(id, text)`"
            )
    return documents


def _watch_add(progress: Callable[[AddEvent], object] | None) -> Callable[[dict[str, Any]], object] | None:
    if progress is None:
        return None
    kinds: dict[str, type[AddEvent]] = {
        "progress": AddProgress,
        "skipped": DocumentSkipped,
        "failed": FailedDocument,
    }
    return lambda data: progress(kinds[data["type"]]._of(data))


def _watch_sync(progress: Callable[[SyncEvent], object] | None) -> Callable[[dict[str, Any]], object] | None:
    if progress is None:
        return None
    return lambda data: progress(SyncProgress._of(data) if data["type"] == "progress" else FileSkipped._of(data))


def _paths(given: Paths) -> list[str]:
    if isinstance(given, (str, os.PathLike)):
        given = [given]
    return [os.fspath(path) for path in given]


#: How words match.
_WORDS = ("phrases", "fuzzy", "exact_first", "expression")
_FLAGS = (*_WORDS, "highlight")
_NUMBERS = ("min_score", "min_relevance", "diversity")
_OPTIONS = {"top_k", "filter", "mode", "vector", "vector_field", "unit", *_FLAGS, *_NUMBERS}


def _query(text: str, options: SearchOptions) -> dict[str, Any]:
    unknown = options.keys() - _OPTIONS
    if unknown:
        raise InvalidInputError(f"query: `{min(unknown)}` is no option of a search")
    query: dict[str, Any] = {"text": text, "top_k": 10}
    query.update((name, value) for name, value in options.items() if value is not None)
    if "filter" in query:
        query["filter"] = _filter_tree(query["filter"])
    if "vector" in query:
        query["vector"] = [float(number) for number in query["vector"]]
    for name in query.keys() & {*_FLAGS}:
        if not isinstance(query[name], bool):
            raise InvalidInputError(f"{name}: pass True or False")
    for name in query.keys() & {*_NUMBERS}:
        if isinstance(query[name], bool) or not isinstance(query[name], (int, float)):
            raise InvalidInputError(f"{name}: pass a number")
    query["words"] = {name: query.pop(name) for name in _WORDS if name in query}
    return query


def _filter_tree(given: object) -> dict[str, Any]:
    if not isinstance(given, Filter):
        raise InvalidInputError("filter: make it with `stepwell.Filter`, such as `Filter.eq(\"year\", 2024)`")
    return given.to_dict()


def _tree(given: Filter | None) -> dict[str, Any] | None:
    return None if given is None else given.to_dict()


class Collection:
    """Documents with their words, vectors and facts in one index, seen by one tenant.

        notes = await Collection.open("notes")
        await notes.add([Document("cathodes.md", "Sodium cathodes swell.")])
        hits = await notes.search("what swells?", top_k=5)

    One writer at a time writes a folder; any number of readers search meanwhile, in Rust, Python and Node.
    """

    def __init__(self, native_collection: native.Collection) -> None:
        self._native = native_collection

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        embedder: Embedder | None | _Default = _MINILM,
        **options: Unpack[CollectionOptions],
    ) -> Collection:
        """A collection in a folder, made when it is not there. Without an embedder (`None`) it searches words alone."""
        if isinstance(embedder, _Default):
            import asyncio

            # Loading the weights takes a moment that the loop should not lose.
            embedder = await asyncio.get_running_loop().run_in_executor(None, shared_minilm)
        return cls(await native.Collection.open(os.fspath(path), *_opening(embedder, options)))

    @classmethod
    def open_sync(
        cls,
        path: str | os.PathLike[str],
        *,
        embedder: Embedder | None | _Default = _MINILM,
        **options: Unpack[CollectionOptions],
    ) -> Collection:
        """The blocking twin of `open`."""
        refuse_on_background()
        return cls(native.Collection.open_sync(os.fspath(path), *_opening(embedder, options)))

    @classmethod
    def in_memory(
        cls, *, embedder: Embedder | None | _Default = _MINILM, **options: Unpack[CollectionOptions]
    ) -> Collection:
        """A collection that lives as long as its handles."""
        return cls(native.Collection.open_sync(None, *_opening(embedder, options)))

    @property
    def tenant(self) -> str:
        """Whose data this handle sees."""
        return self._native.tenant

    def scoped(self, tenant: str, actor: str | None = None) -> Collection:
        """The same collection as another tenant sees it."""
        return Collection(self._native.scoped(tenant, actor))

    async def add(
        self,
        documents: Document | Iterable[Document],
        *,
        progress: Callable[[AddEvent], object] | None = None,
        chunks_per_commit: int | None = None,
        stops_at_error: bool = False,
    ) -> AddReport:
        """Adds documents, replacing those of the same id; unchanged ones are skipped.

        A document that cannot be added is in the report's `failed` and the others go on; with `stops_at_error` its error
        ends the `add`. `progress` is called with each `AddProgress`, `DocumentSkipped` and `FailedDocument`, on this
        loop; what it raises stops the `add`. Cancelling the task stops it too: what was committed stays, and the next
        `add` goes on from there.
        """
        settings = {"chunks_per_commit": chunks_per_commit, "stops_at_error": stops_at_error}
        return AddReport._of(await self._native.add(_documents(documents), _watch_add(progress), settings))

    def add_sync(
        self,
        documents: Document | Iterable[Document],
        *,
        progress: Callable[[AddEvent], object] | None = None,
        chunks_per_commit: int | None = None,
        stops_at_error: bool = False,
    ) -> AddReport:
        """The blocking twin of `add`; `progress` is called on this thread."""
        refuse_on_background()
        settings = {"chunks_per_commit": chunks_per_commit, "stops_at_error": stops_at_error}
        return AddReport._of(self._native.add_sync(_documents(documents), _watch_add(progress), settings))

    async def sync(
        self,
        paths: Paths,
        *,
        progress: Callable[[SyncEvent], object] | None = None,
        chunks_per_commit: int | None = None,
        removes: bool = True,
        allows_empty: bool = False,
    ) -> SyncReport:
        """Makes it hold the files under these paths (PDF, DOCX, HTML, Markdown, text), at the cost of what changed.

        Unchanged files are only hashed, moved ones change their id and are not embedded again; documents whose files are
        gone are deleted unless `removes` is false. A folder that lost all its files is more likely not mounted than
        emptied: it is refused unless `allows_empty`. A file that cannot be read is reported in `skipped` and the others go on.
        """
        settings = {"chunks_per_commit": chunks_per_commit, "removes": removes, "allows_empty": allows_empty}
        report = await self._native.sync_files(_paths(paths), _watch_sync(progress), settings)
        return SyncReport._of(report)

    def sync_sync(
        self,
        paths: Paths,
        *,
        progress: Callable[[SyncEvent], object] | None = None,
        chunks_per_commit: int | None = None,
        removes: bool = True,
        allows_empty: bool = False,
    ) -> SyncReport:
        """The blocking twin of `sync`."""
        refuse_on_background()
        settings = {"chunks_per_commit": chunks_per_commit, "removes": removes, "allows_empty": allows_empty}
        return SyncReport._of(self._native.sync_files_sync(_paths(paths), _watch_sync(progress), settings))

    async def plan_sync(self, paths: Paths, *, removes: bool = True, allows_empty: bool = False) -> SyncPlan:
        """What `sync` would do with these paths now: files are read, but nothing is embedded or written."""
        settings = {"removes": removes, "allows_empty": allows_empty}
        return SyncPlan._of(await self._native.plan_files(_paths(paths), settings))

    def plan_sync_sync(self, paths: Paths, *, removes: bool = True, allows_empty: bool = False) -> SyncPlan:
        """The blocking twin of `plan_sync`."""
        refuse_on_background()
        settings = {"removes": removes, "allows_empty": allows_empty}
        return SyncPlan._of(self._native.plan_files_sync(_paths(paths), settings))

    async def search(self, text: str, **options: Unpack[SearchOptions]) -> list[Hit]:
        """The best hits for a question, best first; ten unless `top_k` says otherwise."""
        return _hits(await self._native.ask({"search": _query(text, options)}))

    def search_sync(self, text: str, **options: Unpack[SearchOptions]) -> list[Hit]:
        """The blocking twin of `search`."""
        return _hits(self._ask_sync({"search": _query(text, options)}))

    async def explain(self, text: str, **options: Unpack[SearchOptions]) -> Explained:
        """`search`, and how each segment of the index was searched by meaning: row by row or through its graph."""
        return Explained._of(await self._native.ask({"explain": _query(text, options)}))

    def explain_sync(self, text: str, **options: Unpack[SearchOptions]) -> Explained:
        """The blocking twin of `explain`."""
        return Explained._of(self._ask_sync({"explain": _query(text, options)}))

    async def delete(self, ids: Iterable[str]) -> int:
        """Deletes documents by id in one commit; how many there were."""
        return int(await self._native.ask({"delete": _ids(ids)}))

    def delete_sync(self, ids: Iterable[str]) -> int:
        """The blocking twin of `delete`."""
        return int(self._ask_sync({"delete": _ids(ids)}))

    async def delete_where(self, filter: Filter) -> int:
        """Deletes every document of which a chunk passes the filter; how many there were."""
        return int(await self._native.ask({"delete_where": filter.to_dict()}))

    def delete_where_sync(self, filter: Filter) -> int:
        """The blocking twin of `delete_where`."""
        return int(self._ask_sync({"delete_where": filter.to_dict()}))

    async def count(self, filter: Filter | None = None) -> int:
        """How many chunks there are, or how many a filter lets through."""
        return int(await self._native.ask({"count": _tree(filter)}))

    def count_sync(self, filter: Filter | None = None) -> int:
        """The blocking twin of `count`."""
        return int(self._ask_sync({"count": _tree(filter)}))

    async def documents(self) -> list[DocumentEntry]:
        """All documents with the hashes of their content, by id."""
        return [DocumentEntry._of(entry) for entry in await self._native.ask("documents")]

    def documents_sync(self) -> list[DocumentEntry]:
        """The blocking twin of `documents`."""
        return [DocumentEntry._of(entry) for entry in self._ask_sync("documents")]

    async def coverage(self, document_id: str) -> Coverage:
        """How much of a document's text its stored chunks hold."""
        return Coverage._of(await self._native.ask({"coverage": document_id}))

    def coverage_sync(self, document_id: str) -> Coverage:
        """The blocking twin of `coverage`."""
        return Coverage._of(self._ask_sync({"coverage": document_id}))

    async def stats(self) -> CollectionStats:
        """What it holds of its tenant."""
        return CollectionStats._of(await self._native.ask("stats"))

    def stats_sync(self) -> CollectionStats:
        """The blocking twin of `stats`."""
        return CollectionStats._of(self._ask_sync("stats"))

    async def index_stats(self) -> IndexStats:
        """How large the whole index is, whoever the chunks belong to: for who runs it, not for a tenant."""
        return IndexStats._of(await self._native.ask("index_stats"))

    def index_stats_sync(self) -> IndexStats:
        """The blocking twin of `index_stats`."""
        return IndexStats._of(self._ask_sync("index_stats"))

    async def compact(self) -> None:
        """Merges all segments into one and frees what was deleted. It happens by itself too, little by little."""
        await self._native.ask("compact")

    def compact_sync(self) -> None:
        """The blocking twin of `compact`."""
        self._ask_sync("compact")

    async def verify(self) -> None:
        """Reads every file against its checksums; `DamagedError` names the first that fails."""
        await self._native.ask("verify")

    def verify_sync(self) -> None:
        """The blocking twin of `verify`."""
        self._ask_sync("verify")

    def _ask_sync(self, what: Any) -> Any:
        refuse_on_background()
        return self._native.ask_sync(what)

    def __repr__(self) -> str:
        return f"<Collection of tenant {self.tenant}>"


def _ids(given: Iterable[str]) -> list[str]:
    if isinstance(given, str):  # a string is a sequence of letters, which nobody means
        raise InvalidInputError("ids: give a list of document ids")
    return list(given)


def _hits(found: list[dict[str, Any]]) -> list[Hit]:
    return [Hit._of(hit) for hit in found]


__all__ = [
    "AddEvent",
    "AddProgress",
    "AddReport",
    "Collection",
    "CollectionStats",
    "Coverage",
    "DocumentEntry",
    "DocumentSkipped",
    "Explained",
    "FailedDocument",
    "FileSkipped",
    "IndexStats",
    "RenamedFile",
    "SegmentSearch",
    "SyncEvent",
    "SyncPlan",
    "SyncProgress",
    "SyncReport",
]
