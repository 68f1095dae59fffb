"""Collections: documents in, hits out."""

from __future__ import annotations

import os

from ._documents import Document, Filter, Hit
from ._embedders import Embedder, shared_minilm
from ._engine import native, refuse_on_background
from ._errors import InvalidInputError
from ._records import Record, _many, _one

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Literal, TypeAlias

    from typing_extensions import TypedDict, Unpack

    SearchMode: TypeAlias = Literal["hybrid", "lexical", "dense"]

    class CollectionOptions(TypedDict, total=False):
        """Settings of a collection. `language`, `codes_only` and the embedder are fixed when the index is made."""

        tenant: str | None
        actor: str | None
        language: str | None
        codes_only: bool | None
        fusion: dict[str, dict[str, float]] | None
        chunks: dict[str, Any] | None

    class SearchOptions(TypedDict, total=False):
        """What can be asked of a search beside the question."""

        top_k: int
        filter: Filter | None
        mode: SearchMode
        min_score: float | None
        vector: Sequence[float] | None


class AddProgress(Record):
    """How far an `add` has come."""

    documents_total: int | None = None
    documents_done: int = 0
    documents_added: int = 0
    documents_updated: int = 0
    documents_unchanged: int = 0
    documents_skipped: int = 0
    chunks: int = 0
    tokens: int = 0
    commits: int = 0
    type: Literal["progress"] = "progress"


class DocumentSkipped(Record):
    """A document was left out: `unchanged`, `empty` (it has no text) or `replaced` (a later one has its id)."""

    document_id: str
    reason: str
    type: Literal["skipped"] = "skipped"


class AddReport(Record):
    """What an `add` did; `skipped` are the documents left out, but for unchanged ones."""

    progress: AddProgress
    skipped: list[DocumentSkipped] = []
    _nested = {"progress": _one(AddProgress), "skipped": _many(DocumentSkipped)}


class SyncProgress(Record):
    """How far a `sync` has come."""

    files_total: int = 0
    files_done: int = 0
    files_added: int = 0
    files_updated: int = 0
    files_unchanged: int = 0
    files_skipped: int = 0
    documents_removed: int = 0
    chunks: int = 0
    tokens: int = 0
    commits: int = 0
    type: Literal["progress"] = "progress"


class FileSkipped(Record):
    """A file or folder cannot be read; the others go on."""

    uri: str
    reason: str
    type: Literal["skipped"] = "skipped"


class SyncReport(Record):
    """What a `sync` did: the counts, what could not be read, ids of documents that were deleted."""

    progress: SyncProgress
    skipped: list[FileSkipped] = []
    removed: list[str] = []
    _nested = {"progress": _one(SyncProgress), "skipped": _many(FileSkipped)}


class DocumentEntry(Record):
    """A document of a collection."""

    id: str
    content_hash: str
    chunks: int


class CollectionStats(Record):
    """What a collection holds of its tenant."""

    documents: int
    chunks: int
    vectors: int
    embedder: str | None
    dimension: int


class IndexStats(Record):
    """The size of the index, which all tenants share."""

    segments: int
    chunks: int
    deleted_chunks: int
    vectors: int
    bytes: int
    vector_bytes: int


if TYPE_CHECKING:
    AddEvent: TypeAlias = AddProgress | DocumentSkipped
    SyncEvent: TypeAlias = SyncProgress | FileSkipped
    Paths: TypeAlias = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
else:
    AddEvent = AddProgress | DocumentSkipped
    SyncEvent = SyncProgress | FileSkipped


class _Default:
    def __repr__(self) -> str:
        return "MiniLm()"


_MINILM = _Default()


def _opening(
    embedder: Embedder | None | _Default, options: CollectionOptions
) -> tuple[native.Embedder | None, dict[str, Any]]:
    if isinstance(embedder, _Default):
        embedder = shared_minilm()
    return (None if embedder is None else embedder._native), dict(options)


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
    return lambda data: progress(
        AddProgress._of(data) if data["type"] == "progress" else DocumentSkipped._of(data)
    )


def _watch_sync(progress: Callable[[SyncEvent], object] | None) -> Callable[[dict[str, Any]], object] | None:
    if progress is None:
        return None
    return lambda data: progress(SyncProgress._of(data) if data["type"] == "progress" else FileSkipped._of(data))


def _paths(given: Paths) -> list[str]:
    if isinstance(given, (str, os.PathLike)):
        given = [given]
    return [os.fspath(path) for path in given]


def _query(text: str, options: SearchOptions) -> dict[str, Any]:
    query: dict[str, Any] = {"text": text, "top_k": 10, **options}
    given = query.get("filter")
    if isinstance(given, Filter):
        query["filter"] = given.to_dict()
    elif given is not None:
        raise InvalidInputError("filter: make it with `stepwell.Filter`, such as `Filter.eq(\"year\", 2024)`")
    if query.get("vector") is not None:
        query["vector"] = [float(number) for number in query["vector"]]
    unknown = query.keys() - {"text", "top_k", "filter", "mode", "min_score", "vector"}
    if unknown:
        raise InvalidInputError(f"query: `{min(unknown)}` is no option of a search")
    return query


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
        made, settings = _opening(embedder, options)
        return cls(await native.Collection.open(os.fspath(path), made, settings))

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
        made, settings = _opening(embedder, options)
        return cls(native.Collection.open_sync(os.fspath(path), made, settings))

    @classmethod
    def in_memory(
        cls, *, embedder: Embedder | None | _Default = _MINILM, **options: Unpack[CollectionOptions]
    ) -> Collection:
        """A collection that lives as long as its handles."""
        made, settings = _opening(embedder, options)
        return cls(native.Collection.open_sync(None, made, settings))

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
    ) -> AddReport:
        """Adds documents, replacing those of the same id; unchanged ones are skipped.

        `progress` is called with each `AddProgress` and `DocumentSkipped`, on this loop; what it raises stops the
        `add`. Cancelling the task stops it too: what was committed stays, and the next `add` goes on from there.
        """
        report = await self._native.add(_documents(documents), _watch_add(progress), chunks_per_commit)
        return AddReport._of(report)

    def add_sync(
        self,
        documents: Document | Iterable[Document],
        *,
        progress: Callable[[AddEvent], object] | None = None,
        chunks_per_commit: int | None = None,
    ) -> AddReport:
        """The blocking twin of `add`; `progress` is called on this thread."""
        refuse_on_background()
        report = self._native.add_sync(_documents(documents), _watch_add(progress), chunks_per_commit)
        return AddReport._of(report)

    async def sync(
        self,
        paths: Paths,
        *,
        progress: Callable[[SyncEvent], object] | None = None,
        chunks_per_commit: int | None = None,
        removes: bool = True,
    ) -> SyncReport:
        """Makes it hold the files under these paths (PDF, DOCX, HTML, Markdown, text), at the cost of what changed.

        Unchanged files are only hashed; documents whose files are gone are deleted unless `removes` is false. A file
        that cannot be read is reported in `skipped` and the others go on.
        """
        settings = {"chunks_per_commit": chunks_per_commit, "removes": removes}
        report = await self._native.sync_files(_paths(paths), _watch_sync(progress), settings)
        return SyncReport._of(report)

    def sync_sync(
        self,
        paths: Paths,
        *,
        progress: Callable[[SyncEvent], object] | None = None,
        chunks_per_commit: int | None = None,
        removes: bool = True,
    ) -> SyncReport:
        """The blocking twin of `sync`."""
        refuse_on_background()
        settings = {"chunks_per_commit": chunks_per_commit, "removes": removes}
        return SyncReport._of(self._native.sync_files_sync(_paths(paths), _watch_sync(progress), settings))

    async def search(self, text: str, **options: Unpack[SearchOptions]) -> list[Hit]:
        """The best hits for a question, best first; ten unless `top_k` says otherwise."""
        return _hits(await self._native.ask({"search": _query(text, options)}))

    def search_sync(self, text: str, **options: Unpack[SearchOptions]) -> list[Hit]:
        """The blocking twin of `search`."""
        return _hits(self._ask_sync({"search": _query(text, options)}))

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
    "DocumentEntry",
    "DocumentSkipped",
    "FileSkipped",
    "IndexStats",
    "SyncEvent",
    "SyncProgress",
    "SyncReport",
]
