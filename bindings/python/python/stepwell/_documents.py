"""Documents in, hits out; and the filter that chooses among them."""

from __future__ import annotations

from ._records import Citation, Record, Span, _many, _one

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Heading(Record):
    """A heading of a document; `level` 1 is the highest."""

    level: int
    title: str
    span: Span
    _nested = {"span": _one(Span)}


class PageSpan(Record):
    """A page of a document; `number` 1 is the first."""

    number: int
    span: Span
    _nested = {"span": _one(Span)}


class Document(Record):
    """What is brought into a collection: a text with its structure, under an id.

    Spans count bytes of the text's UTF-8, not characters.
    """

    id: str
    text: str
    title: str | None = None
    uri: str | None = None
    media_type: str | None = None
    headings: list[Heading] = []
    pages: list[PageSpan] = []
    metadata: dict[str, Any] = {}
    _nested = {"headings": _many(Heading), "pages": _many(PageSpan)}

    def __init__(
        self,
        id: str,
        text: str,
        *,
        title: str | None = None,
        uri: str | None = None,
        media_type: str | None = None,
        headings: list[Heading] | None = None,
        pages: list[PageSpan] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.__dict__ = {
            "id": id,
            "text": text,
            "title": title,
            "uri": uri,
            "media_type": media_type,
            "headings": headings or [],
            "pages": pages or [],
            "metadata": metadata or {},
        }


class Chunk(Record):
    """A span of a document: what is searched."""

    id: str
    document_id: str
    number: int
    text: str
    span: Span
    headings: list[str] = []
    page: int | None = None
    page_breaks: list[list[int]] = []
    title: str | None = None
    uri: str | None = None
    metadata: dict[str, Any] = {}
    _nested = {"span": _one(Span)}

    @property
    def place(self) -> str:
        """File, then page or heading."""
        return Citation(
            document_id=self.document_id,
            span=self.span,
            quote="",
            title=self.title,
            uri=self.uri,
            page=self.page,
            headings=self.headings,
        ).place


class LegScore(Record):
    """What one leg of the search thinks of a hit."""

    rank: int | None = None
    raw: float = 0.0
    normalized: float = 0.0


class Explanation(Record):
    """Why a hit is where it is."""

    stage: str = ""
    lexical: LegScore | None = None
    dense: LegScore | None = None
    #: Share of the question's distinct words that the chunk has, 0 to 1.
    term_coverage: float | None = None
    #: The same share, a word counting the more the fewer chunks have it.
    weighted_coverage: float | None = None
    #: How likely it answers the question, 0 to 1, comparable between questions.
    relevance: float | None = None
    _nested = {"lexical": _one(LegScore), "dense": _one(LegScore)}


class Hit(Record):
    """A found chunk; a higher score is better.

    `highlights` are where words of the question stand, where they were asked for: bytes of the UTF-8 of `chunk.text`,
    not characters, such as `hit.text.encode()[span.start : span.end].decode()`.
    """

    chunk: Chunk
    score: float
    explanation: Explanation = Explanation()
    highlights: list[Span] = []
    _nested = {"chunk": _one(Chunk), "explanation": _one(Explanation), "highlights": _many(Span)}

    @property
    def text(self) -> str:
        """The chunk's words."""
        return self.chunk.text


class Filter:
    """Which chunks may be found: a typed tree over the facts in `metadata`, never a string.

    `Filter.eq("year", 2024) & ~Filter.prefix("path", "drafts/")`; a fact that is a list matches when one of its
    values does, dots in a key step into objects.
    """

    def __init__(self, tree: dict[str, Any]) -> None:
        self._tree = tree

    @staticmethod
    def eq(key: str, value: str | int | float | bool) -> Filter:
        """The fact equals this."""
        return Filter({"eq": {"key": key, "value": _filter_value(value)}})

    @staticmethod
    def is_in(key: str, values: list[str] | list[int] | list[float] | list[bool]) -> Filter:
        """The fact equals one of these."""
        return Filter({"in": {"key": key, "values": [_filter_value(value) for value in values]}})

    @staticmethod
    def range(
        key: str, min: str | int | float | None = None, max: str | int | float | None = None
    ) -> Filter:
        """The fact lies between, bounds included; `None` leaves a side open."""
        low, high = (None if side is None else _filter_value(side) for side in (min, max))
        return Filter({"range": {"key": key, "min": low, "max": high}})

    @staticmethod
    def dates(key: str, min: str | None = None, max: str | None = None) -> Filter:
        """The fact, a moment in RFC 3339, lies between."""
        low, high = (None if side is None else {"date": side} for side in (min, max))
        return Filter({"range": {"key": key, "min": low, "max": high}})

    @staticmethod
    def exists(key: str) -> Filter:
        """The fact is there."""
        return Filter({"exists": {"key": key}})

    @staticmethod
    def prefix(key: str, prefix: str) -> Filter:
        """The fact begins so."""
        return Filter({"prefix": {"key": key, "prefix": prefix}})

    @staticmethod
    def documents(ids: list[str]) -> Filter:
        """Chunks of these documents."""
        return Filter({"documents": {"ids": list(ids)}})

    def __and__(self, other: Filter) -> Filter:
        return Filter({"and": [self._tree, other._tree]})

    def __or__(self, other: Filter) -> Filter:
        return Filter({"or": [self._tree, other._tree]})

    def __invert__(self) -> Filter:
        return Filter({"not": self._tree})

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return dict(self._tree)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and self._tree == other._tree

    def __repr__(self) -> str:
        return f"Filter({self._tree!r})"


def _filter_value(value: str | int | float | bool) -> dict[str, Any]:
    if isinstance(value, bool):  # a bool is an int: ask first
        return {"bool": value}
    if isinstance(value, int):
        return {"integer": value}
    if isinstance(value, float):
        return {"number": value}
    return {"text": value}
