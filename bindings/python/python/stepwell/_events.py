"""`StreamEvent`: one step of an answer. A delta is the new piece alone, never the text so far.

`match` works on them: `case TextDelta(text=piece)`; so does `event.type == "text_delta"`.
"""

from __future__ import annotations

from ._records import Citation, Opaque, RateLimit, Record, Refusal, Usage, _many, _one, part_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, TypeAlias

    from ._records import FinishReason, Part


class MessageStart(Record):
    """The vendor began to answer."""

    id: str | None = None
    model: str | None = None
    request_id: str | None = None
    type: Literal["message_start"] = "message_start"


class TextStart(Record):
    """A text part begins."""

    index: int
    type: Literal["text_start"] = "text_start"


class TextDelta(Record):
    """More of it."""

    index: int
    text: str
    type: Literal["text_delta"] = "text_delta"


class TextEnd(Record):
    """It is whole."""

    index: int
    opaque: Opaque | None = None
    type: Literal["text_end"] = "text_end"
    _nested = {"opaque": _one(Opaque)}


class ReasoningStart(Record):
    """A thought begins."""

    index: int
    type: Literal["reasoning_start"] = "reasoning_start"


class ReasoningDelta(Record):
    """More of it."""

    index: int
    text: str
    type: Literal["reasoning_delta"] = "reasoning_delta"


class ReasoningEnd(Record):
    """It is whole."""

    index: int
    opaque: Opaque | None = None
    is_redacted: bool = False
    type: Literal["reasoning_end"] = "reasoning_end"
    _nested = {"opaque": _one(Opaque)}


class ToolCallStart(Record):
    """A tool call begins; its name is known."""

    index: int
    id: str
    name: str
    is_provider_executed: bool = False
    type: Literal["tool_call_start"] = "tool_call_start"


class ToolCallDelta(Record):
    """More of its arguments, as JSON text."""

    index: int
    arguments: str
    type: Literal["tool_call_delta"] = "tool_call_delta"


class ToolCallEnd(Record):
    """Its arguments are whole."""

    index: int
    opaque: Opaque | None = None
    type: Literal["tool_call_end"] = "tool_call_end"
    _nested = {"opaque": _one(Opaque)}


class PartEvent(Record):
    """A part that comes whole."""

    index: int
    part: Part
    type: Literal["part"] = "part"
    _nested = {"part": part_of}


class CitationEvent(Record):
    """What a text part rests on."""

    index: int
    citation: Citation
    type: Literal["citation"] = "citation"
    _nested = {"citation": _one(Citation)}


class DataEvent(Record):
    """Data for the program beside the answer."""

    name: str
    value: Any
    origin: str = "tool"
    type: Literal["data"] = "data"


class WarningEvent(Record):
    """Something that was not done as asked."""

    code: str
    message: str
    type: Literal["warning"] = "warning"


class StructuredEvent(Record):
    """The answer's JSON, checked against the shape that was asked for. It comes last before the end."""

    strategy: str
    value: Any = None
    type: Literal["structured"] = "structured"


class UsageEvent(Record):
    """The tokens so far; a later one replaces it."""

    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    is_estimated: bool = False
    type: Literal["usage"] = "usage"


class RateLimitsEvent(Record):
    """The vendor's limits."""

    limits: list[RateLimit]
    type: Literal["rate_limits"] = "rate_limits"
    _nested = {"limits": _many(RateLimit)}


class AttemptEvent(Record):
    """A try that failed before the answer came; the answer keeps it."""

    provider: str
    model: str
    code: str
    status: int | None = None
    kind: str | None = None
    request_id: str | None = None
    waited_ms: int = 0
    usage: Usage | None = None
    cost: dict[str, Any] | None = None
    type: Literal["attempt"] = "attempt"
    _nested = {"usage": _one(Usage)}


class FallbackEvent(Record):
    """Another model than the one asked answers from here on."""

    provider: str
    model: str
    type: Literal["fallback"] = "fallback"


class Ping(Record):
    """A sign of life that brings nothing."""

    type: Literal["ping"] = "ping"


class RawEvent(Record):
    """A vendor event as it came, when asked for."""

    value: Any
    type: Literal["raw"] = "raw"


class Finish(Record):
    """The end mark: exactly one, and the last."""

    reason: FinishReason
    raw: str | None = None
    refusal: Refusal | None = None
    type: Literal["finish"] = "finish"
    _nested = {"refusal": _one(Refusal)}


if TYPE_CHECKING:
    #: One step of an answer; tell them apart by `event.type` or `match`.
    StreamEvent: TypeAlias = (
        MessageStart
        | TextStart
        | TextDelta
        | TextEnd
        | ReasoningStart
        | ReasoningDelta
        | ReasoningEnd
        | ToolCallStart
        | ToolCallDelta
        | ToolCallEnd
        | PartEvent
        | CitationEvent
        | DataEvent
        | WarningEvent
        | StructuredEvent
        | UsageEvent
        | RateLimitsEvent
        | AttemptEvent
        | FallbackEvent
        | Ping
        | RawEvent
        | Finish
    )
else:
    StreamEvent = MessageStart | TextStart | TextDelta | TextEnd | ReasoningStart | ReasoningDelta | ReasoningEnd
    StreamEvent |= ToolCallStart | ToolCallDelta | ToolCallEnd | PartEvent | CitationEvent | DataEvent
    StreamEvent |= WarningEvent | UsageEvent | RateLimitsEvent | AttemptEvent | FallbackEvent | Ping | RawEvent
    StreamEvent |= StructuredEvent | Finish

_EVENTS: dict[str, type[Record]] = {
    cls.type: cls  # type: ignore[attr-defined]
    for cls in Record.__subclasses__()
    if cls.__module__ == __name__
}


class UnknownEvent(Record):
    """A step that this version of the package does not know; all of it is in `to_dict()`."""

    type: str


def event_of(data: dict[str, Any]) -> Any:
    """The record of an event's JSON."""
    return _EVENTS.get(data["type"], UnknownEvent)._of(data)
