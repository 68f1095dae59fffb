"""What a run tells: `RunEvent`s while it goes, a `RunResult` when it has ended."""

from __future__ import annotations

from ._documents import Hit
from ._events import StreamEvent, event_of
from ._records import Citation, Message, Record, ToolCall, ToolResult, Usage, _many, _one

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, TypeAlias

    RunStatus: TypeAlias = Literal["running", "paused", "done", "failed", "cancelled"]


class _Event(Record):
    """Where and when something happened: `seq` counts from 1 without gaps."""

    seq: int
    run_id: str
    step: int
    node: str | None = None
    path: list[str] = []


class RunStart(_Event):
    """The run began, or went on from its journal."""

    is_resumed: bool
    type: Literal["run_start"] = "run_start"


class StepStart(_Event):
    """A step began, with these nodes."""

    nodes: list[str]
    type: Literal["step_start"] = "step_start"


class NodeStart(_Event):
    """A node began."""

    type: Literal["node_start"] = "node_start"


class ModelEvent(_Event):
    """A model said something: `event` is a `StreamEvent`."""

    event: StreamEvent
    type: Literal["model"] = "model"
    _nested = {"event": event_of}


class ToolStart(_Event):
    """A tool call is about to run."""

    call: ToolCall
    type: Literal["tool_start"] = "tool_start"
    _nested = {"call": _one(ToolCall)}


class ToolProgress(_Event):
    """A tool tells how far it is."""

    call_id: str
    value: Any
    type: Literal["tool_progress"] = "tool_progress"


class ToolEnd(_Event):
    """A tool call has its result."""

    result: ToolResult
    type: Literal["tool_end"] = "tool_end"
    _nested = {"result": _one(ToolResult)}


class CustomEvent(_Event):
    """A node says something of its own."""

    name: str
    value: Any
    type: Literal["custom"] = "custom"


class UpdateEvent(_Event):
    """A node ended with an update."""

    update: Any
    type: Literal["update"] = "update"


class Failure(Record):
    """A failure as plain data."""

    code: str
    message: str


class NodeEnd(_Event):
    """A node ended."""

    failure: Failure | None = None
    type: Literal["node_end"] = "node_end"
    _nested = {"failure": _one(Failure)}


class StepEnd(_Event):
    """A step ended; its updates are folded."""

    values: Any = None
    type: Literal["step_end"] = "step_end"


class RunEnd(_Event):
    """The run ended: the last event."""

    status: RunStatus
    failure: Failure | None = None
    type: Literal["run_end"] = "run_end"
    _nested = {"failure": _one(Failure)}


class UnknownRunEvent(_Event):
    """An event that this version of the package does not know; all of it is in `to_dict()`."""

    type: str


if TYPE_CHECKING:
    #: One thing that happened in a run; tell them apart by `event.type` or `match`.
    RunEvent: TypeAlias = (
        RunStart
        | StepStart
        | NodeStart
        | ModelEvent
        | ToolStart
        | ToolProgress
        | ToolEnd
        | CustomEvent
        | UpdateEvent
        | NodeEnd
        | StepEnd
        | RunEnd
    )
else:
    RunEvent = RunStart | StepStart | NodeStart | ModelEvent | ToolStart | ToolProgress | ToolEnd
    RunEvent |= CustomEvent | UpdateEvent | NodeEnd | StepEnd | RunEnd

_RUN_EVENTS: dict[str, type[_Event]] = {
    "run_start": RunStart,
    "step_start": StepStart,
    "node_start": NodeStart,
    "model": ModelEvent,
    "tool_start": ToolStart,
    "tool_progress": ToolProgress,
    "tool_end": ToolEnd,
    "custom": CustomEvent,
    "update": UpdateEvent,
    "node_end": NodeEnd,
    "step_end": StepEnd,
    "run_end": RunEnd,
}


def run_event_of(data: dict[str, Any]) -> Any:
    """The record of a run event's JSON."""
    return _RUN_EVENTS.get(data["type"], UnknownRunEvent)._of(data)


class Spend(Record):
    """What a run took of its budget."""

    micro_usd: int = 0
    tokens: int = 0
    calls: int = 0
    time_ms: int = 0


class RunResult(Record):
    """How a run ended. `str(result)` is its answer."""

    run_id: str
    status: RunStatus
    #: The whole conversation: what was given, the model's messages, the tools' results.
    messages: list[Message]
    #: The words of the answer; empty where there is none yet.
    answer: str
    #: What the answer rests on.
    citations: list[Citation]
    #: What was found by searches of this turn, each chunk once.
    hits: list[Hit]
    usage: Usage
    spent: Spend
    steps: int
    #: Why it stopped before its end.
    error: Exception | None = None
    _nested = {
        "messages": _many(Message),
        "citations": _many(Citation),
        "hits": _many(Hit),
        "usage": _one(Usage),
        "spent": _one(Spend),
    }

    def __str__(self) -> str:
        return self.answer
