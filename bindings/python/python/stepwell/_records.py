"""Plain data of the engine: messages, parts, answers, documents, hits.

A record's attributes are its JSON fields, under the same names as in Rust and Node; words of a closed set
(`role`, `finish_reason`, `type` …) are strings. Records compare by value, print, pickle, and go to and from JSON
with `to_dict` and `from_dict`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

    from typing_extensions import Self, dataclass_transform

    Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]
    Origin: TypeAlias = Literal["system", "user", "model", "tool", "document", "import"]
    FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "other"]
    CachePoint: TypeAlias = Literal["short", "long"]
    R = TypeVar("R", bound="Record")
else:

    def dataclass_transform(**_):
        return lambda cls: cls


@dataclass_transform(kw_only_default=True)
class Record:
    """Base of all plain data."""

    #: Fields that hold records, with what builds them.
    _nested: ClassVar[dict[str, Callable[[Any], Any]]] = {}
    _fields: ClassVar[tuple[str, ...]] = ()
    #: Fields whose default can be changed, with what makes a new one.
    _fresh: ClassVar[dict[str, Callable[[], Any]]] = {}
    #: Neither of the two: the engine's dict is taken as it is.
    _is_flat: ClassVar[bool] = True

    def __init_subclass__(cls) -> None:
        own = tuple(name for name in cls.__annotations__ if not name.startswith("_"))
        cls._fields = tuple(dict.fromkeys(cls._fields + own))
        cls._fresh = {
            name: _maker(default)
            for name in cls._fields
            if isinstance(default := getattr(cls, name, None), (list, dict, Record))
        }
        cls._is_flat = not cls._nested and not cls._fresh

    if not TYPE_CHECKING:  # checkers make a typed one from the fields

        def __init__(self, **fields):
            cls = type(self)
            unknown = [name for name in fields if name not in cls._fields]
            if unknown:
                raise TypeError(f"{cls.__name__} has no field {unknown[0]!r}; it has {', '.join(cls._fields)}")
            missing = [name for name in cls._fields if name not in fields and not hasattr(cls, name)]
            if missing:
                raise TypeError(f"{cls.__name__} needs {', '.join(missing)}")
            for name in cls._fields:
                if name not in fields:
                    make = cls._fresh.get(name)
                    fields[name] = getattr(cls, name) if make is None else make()
            self.__dict__ = fields

    @classmethod
    def _of(cls, data: dict[str, Any]) -> Self:
        """Takes over a dict of the engine."""
        self = cls.__new__(cls)
        self.__dict__ = data
        if cls._is_flat:
            return self
        for name, build in cls._nested.items():
            value = data.get(name)
            if value is not None:
                data[name] = build(value)
        for name, make in cls._fresh.items():
            if name not in data:
                data[name] = make()
        return self

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """From JSON data; nested data becomes records."""
        missing = [name for name in cls._fields if name not in data and not hasattr(cls, name)]
        if missing:
            raise TypeError(f"{cls.__name__} needs {', '.join(missing)}")
        return cls._of(_copy(data))

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {name: _plain(value) for name, value in self.__dict__.items()}

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name, None) == getattr(other, name, None) for name in self._fields)

    __hash__ = None  # type: ignore[assignment]  # records can be changed

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={value!r}"
            for name in self._fields
            if (value := getattr(self, name, None)) is not None and value != [] and value != {}
        )
        return f"{type(self).__name__}({shown})"


def _maker(default: Any) -> Callable[[], Any]:
    if isinstance(default, (list, dict)) and not default:
        return type(default)
    return lambda: _copy(default)


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copy(item) for item in value]
    if isinstance(value, Record):
        return type(value)._of(_copy(value.__dict__))
    return value


def _many(cls: type[R]) -> Callable[[list[dict[str, Any]]], list[R]]:
    return lambda items: [item if isinstance(item, cls) else cls._of(item) for item in items]


def _one(cls: type[R]) -> Callable[[dict[str, Any]], R]:
    return lambda item: item if isinstance(item, cls) else cls._of(item)


class Span(Record):
    """Bytes of a document's text (UTF-8): from `start` up to and without `end`."""

    start: int
    end: int


class Citation(Record):
    """A place in a document that words rest on; `quote` are the exact words at `span`."""

    document_id: str
    span: Span
    quote: str
    chunk_id: str = ""
    title: str | None = None
    uri: str | None = None
    page: int | None = None
    headings: list[str] = []
    _nested = {"span": _one(Span)}

    @property
    def place(self) -> str:
        """File, then page or heading: `guide.pdf, page 3` or `runs.md, Runs › Resume`."""
        name = self.uri or self.title or self.document_id
        if self.page is not None:
            return f"{name}, page {self.page}"
        return f"{name}, {' › '.join(self.headings)}" if self.headings else name


class Opaque(Record):
    """A vendor's own token on a part; sent back only to the vendor and model that made it."""

    provider: str
    model: str
    value: Any


class Text(Record):
    """Words."""

    text: str
    origin: Origin = "user"
    citations: list[Citation] = []
    opaque: Opaque | None = None
    cache: CachePoint | None = None
    type: Literal["text"] = "text"
    _nested = {"citations": _many(Citation), "opaque": _one(Opaque)}


class Media(Record):
    """An image, a sound, a PDF. `source` is `{"bytes": base64}`, `{"url": …}` or `{"file_id": …}`."""

    media_type: str
    source: dict[str, str]
    name: str | None = None
    origin: Origin = "user"
    cache: CachePoint | None = None
    type: Literal["media"] = "media"

    @classmethod
    def of_bytes(cls, media_type: str, data: bytes, name: str | None = None) -> Media:
        """With its bytes, such as `Media.of_bytes("image/png", data)`."""
        import base64

        return cls(media_type=media_type, source={"bytes": base64.b64encode(data).decode()}, name=name)

    @classmethod
    def of_url(cls, media_type: str, url: str) -> Media:
        """At an address that is handed to the vendor and never fetched here."""
        return cls(media_type=media_type, source={"url": url})


class Reasoning(Record):
    """What a model thought before it answered."""

    text: str
    opaque: Opaque | None = None
    is_redacted: bool = False
    origin: Origin = "model"
    type: Literal["reasoning"] = "reasoning"
    _nested = {"opaque": _one(Opaque)}


class ToolCall(Record):
    """The model's wish to have a tool called."""

    id: str
    name: str
    arguments: Any
    malformed: str | None = None
    is_provider_executed: bool = False
    opaque: Opaque | None = None
    origin: Origin = "model"
    type: Literal["tool_call"] = "tool_call"
    _nested = {"opaque": _one(Opaque)}


class ToolResult(Record):
    """Our answer to a `ToolCall`, by its id."""

    call_id: str
    name: str
    parts: list[Part]
    is_error: bool = False
    origin: Origin = "tool"
    cache: CachePoint | None = None
    type: Literal["tool_result"] = "tool_result"
    _nested = {"parts": lambda parts: [part_of(part) for part in parts]}

    @property
    def text(self) -> str:
        """The words of the result."""
        return "\n".join(part.text for part in self.parts if isinstance(part, Text))


class Data(Record):
    """Structured data for the program or the screen."""

    name: str
    value: Any
    origin: Origin = "tool"
    type: Literal["data"] = "data"


class Unknown(Record):
    """A part this version does not know, kept as it came."""

    provider: str
    value: Any
    origin: Origin = "model"
    type: Literal["unknown"] = "unknown"


if TYPE_CHECKING:
    #: One piece of a message; tell them apart by `part.type` or `isinstance`.
    Part: TypeAlias = Text | Media | Reasoning | ToolCall | ToolResult | Data | Unknown
else:
    Part = Text | Media | Reasoning | ToolCall | ToolResult | Data | Unknown

_PARTS: dict[str, type[Record]] = {
    "text": Text,
    "media": Media,
    "reasoning": Reasoning,
    "tool_call": ToolCall,
    "tool_result": ToolResult,
    "data": Data,
    "unknown": Unknown,
}


def part_of(data: Any) -> Any:
    """The record of a part's JSON."""
    if isinstance(data, Record):
        return data
    return _PARTS[data["type"]]._of(data)


class Message(Record):
    """One turn: whose it is, and what was said."""

    role: Role
    parts: list[Part]
    id: str | None = None
    name: str | None = None
    metadata: dict[str, Any] = {}
    _nested = {"parts": lambda parts: [part_of(part) for part in parts]}

    @classmethod
    def system(cls, text: str) -> Message:
        """Instructions of the program."""
        return cls(role="system", parts=[Text(text=text, origin="system")])

    @classmethod
    def user(cls, text: str) -> Message:
        """Words of the person."""
        return cls(role="user", parts=[Text(text=text)])

    @classmethod
    def assistant(cls, text: str) -> Message:
        """Words of the model."""
        return cls(role="assistant", parts=[Text(text=text, origin="model")])

    @property
    def text(self) -> str:
        """All words, reasoning and tool traffic left out."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The calls in it that the program is to run."""
        return [part for part in self.parts if isinstance(part, ToolCall) and not part.is_provider_executed]

    @property
    def citations(self) -> list[Citation]:
        """What the words rest on."""
        return [citation for part in self.parts if isinstance(part, Text) for citation in part.citations]


class Usage(Record):
    """Tokens of one call, in disjoint parts; what was not reported is `None`."""

    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    is_estimated: bool = False

    @property
    def total_input(self) -> int:
        """All input, cached or not."""
        parts = (self.input_tokens, self.cache_read_tokens, self.cache_write_tokens, self.cache_write_1h_tokens)
        return sum(part or 0 for part in parts)

    @property
    def total_output(self) -> int:
        """All output, reasoning included."""
        return (self.output_tokens or 0) + (self.reasoning_tokens or 0)


class Warning(Record):  # noqa: A001  the engine's word
    """Something that was not done as asked, though the answer came."""

    code: str
    message: str


class Failure(Record):
    """A failure as plain data."""

    code: str
    message: str


class Refusal(Record):
    """The model or the vendor would not answer."""

    message: str | None = None
    category: str | None = None


class RateLimit(Record):
    """One of the vendor's limits, as told with an answer."""

    name: str
    limit: int | None = None
    remaining: int | None = None
    reset_ms: int | None = None


class Attempt(Record):
    """A try of a call that failed before the answer came."""

    provider: str
    model: str
    #: The `code` of its error.
    code: str
    status: int | None = None
    kind: str | None = None
    request_id: str | None = None
    waited_ms: int = 0
    usage: Usage | None = None
    cost: dict[str, Any] | None = None
    _nested = {"usage": _one(Usage)}


class Structured(Record):
    """The JSON of an answer that was asked for in a shape; `value` is `None` where the answer broke it."""

    #: How it was brought about: `native`, `final_tool`, `prompted` or `two_phase`.
    strategy: str
    value: Any = None


class ChatResponse(Record):
    """A whole answer."""

    message: Message
    finish_reason: FinishReason
    provider: str
    model: str
    raw_finish_reason: str | None = None
    refusal: Refusal | None = None
    usage: Usage = Usage()
    cost: dict[str, Any] | None = None
    id: str | None = None
    request_id: str | None = None
    warnings: list[Warning] = []
    rate_limits: list[RateLimit] = []
    raw: Any = None
    #: The answer's JSON where a shape was asked for.
    structured: Structured | None = None
    #: Tries that failed before this answer came, oldest first.
    attempts: list[Attempt] = []
    _nested = {
        "message": _one(Message),
        "structured": _one(Structured),
        "usage": _one(Usage),
        "refusal": _one(Refusal),
        "warnings": _many(Warning),
        "rate_limits": _many(RateLimit),
        "attempts": _many(Attempt),
    }

    @property
    def text(self) -> str:
        """Its words."""
        return self.message.text

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The calls the model asks for."""
        return self.message.tool_calls

    @property
    def citations(self) -> list[Citation]:
        """What the words rest on."""
        return self.message.citations


class ModelInfo(Record):
    """A model, by name and by what is known of it; `None` is unknown."""

    provider: str
    model: str
    context_window: int | None = None
    max_output_tokens: int | None = None
    abilities: dict[str, bool | None] = {}
    price: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """`vendor/model`."""
        return f"{self.provider}/{self.model}"


def messages_of(given: Any) -> Iterator[Any]:
    """What a caller may give as messages, as a list of them: a string is the person's words."""
    if isinstance(given, (str, Message, dict)):
        given = [given]
    for message in given:
        yield Message.user(message) if isinstance(message, str) else message
