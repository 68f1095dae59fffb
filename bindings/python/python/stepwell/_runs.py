"""What a run tells: `RunEvent`s while it goes, a `RunResult` when it has ended."""

from __future__ import annotations

from typing import Generic

from ._documents import Hit
from ._events import StreamEvent, event_of
from ._errors import InvalidInputError
from ._records import Citation, Failure, Message, Record, ToolCall, ToolResult, Usage, _many, _one

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, TypeAlias

    from typing_extensions import Self, TypeVar

    #: What an answer in a shape becomes; `None` of an agent that was asked for none.
    T = TypeVar("T", default=None)
    RunStatus: TypeAlias = Literal["running", "paused", "done", "failed", "cancelled"]
else:
    from typing import TypeVar

    T = TypeVar("T")


class _Event(Record):
    """Where and when something happened: `seq` counts from 1 without gaps."""

    seq: int
    run_id: str
    step: int
    node: str | None = None
    path: list[str] = []
    #: Which of several tasks of one node, where a node was sent several.
    send: int | None = None


class RunStart(_Event):
    """The run began, or went on from its journal."""

    is_resumed: bool
    #: The state it begins with, where it was asked for.
    values: Any = None
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


class NodeEnd(_Event):
    """A node ended."""

    failure: Failure | None = None
    type: Literal["node_end"] = "node_end"
    _nested = {"failure": _one(Failure)}


class NodeRetry(_Event):
    """A node failed and is tried again, after `delay_ms`; `attempt` 1 is the first that failed."""

    attempt: int
    failure: Failure
    delay_ms: int
    type: Literal["node_retry"] = "node_retry"
    _nested = {"failure": _one(Failure)}


class Question(Record):
    """What a run waits for: plain data, to be shown to a person.

    Whether a tool may be called is such a question: its payload has `tool`, `arguments`, `reason`, `effect`, `risk`,
    and an `Approval` answers it.
    """

    #: Answer it by this.
    id: str
    #: The author's name for it.
    key: str
    #: The nodes around the run that asks, from the outermost in.
    path: list[str] = []
    #: The node that asks.
    node: str
    step: int
    #: The tool call that asks, where it is one.
    call_id: str | None = None
    #: What the person is shown.
    payload: Any
    #: JSON Schema of the answer.
    schema: dict[str, Any]
    #: When it was asked, milliseconds since 1970.
    asked_ms: int
    #: When it is too late for an answer.
    expires_ms: int | None = None


class QuestionEvent(_Event):
    """A node asks a person; the run pauses once its step is done."""

    question: Question
    type: Literal["question"] = "question"
    _nested = {"question": _one(Question)}


class StepEnd(_Event):
    """A step ended; its updates are folded."""

    values: Any = None
    type: Literal["step_end"] = "step_end"


class Pause(Record):
    """Why a run paused; `nodes` are those of a breakpoint."""

    pause: Literal["questions", "before", "after", "drained"]
    nodes: list[str] = []


class RunEnd(_Event):
    """The run ended: the last event."""

    status: RunStatus
    #: Why it paused, where it did.
    pause: Pause | None = None
    failure: Failure | None = None
    #: What it waits for.
    questions: list[Question] = []
    values: Any = None
    type: Literal["run_end"] = "run_end"
    _nested = {"failure": _one(Failure), "pause": _one(Pause), "questions": _many(Question)}


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
        | NodeRetry
        | QuestionEvent
        | StepEnd
        | RunEnd
    )
else:
    RunEvent = RunStart | StepStart | NodeStart | ModelEvent | ToolStart | ToolProgress | ToolEnd
    RunEvent |= CustomEvent | UpdateEvent | NodeEnd | NodeRetry | QuestionEvent | StepEnd | RunEnd

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
    "node_retry": NodeRetry,
    "question": QuestionEvent,
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


class Approval(Record):
    """A person's word on a tool call, bound to the exact arguments that were shown."""

    decision: Literal["allow", "edit", "deny"]
    digest: str
    arguments: dict[str, Any] | None = None
    reason: str | None = None

    @classmethod
    def allow(cls, question: Question) -> Approval:
        """It may run."""
        return cls(decision="allow", digest=_digest_of(question))

    @classmethod
    def edit(cls, question: Question, arguments: dict[str, Any]) -> Approval:
        """It may run with these arguments."""
        return cls(decision="edit", digest=_digest_of(question), arguments=arguments)

    @classmethod
    def deny(cls, question: Question, reason: str) -> Approval:
        """It must not run; the model is told the reason."""
        return cls(decision="deny", digest=_digest_of(question), reason=reason)


def _digest_of(question: Question) -> str:
    payload = question.payload
    digest = payload.get("digest") if isinstance(payload, dict) else None
    if not isinstance(digest, str):
        raise InvalidInputError(f"the question `{question.id}` is not about a tool call")
    return digest


def answer_of(answer: Any) -> Any:
    """An answer as the engine reads it: an approval without what it does not say."""
    if isinstance(answer, Approval):
        return {name: value for name, value in answer.to_dict().items() if value is not None}
    return answer


class RunResult(Record, Generic[T]):
    """How a run ended or paused. `str(result)` is its answer."""

    #: What it goes on with where it paused: of this process, no data.
    __slots__ = ("_paused",)

    run_id: str
    status: RunStatus
    #: The whole conversation: what was given, the model's messages, the tools' results.
    messages: list[Message]
    #: The words of the answer; empty where there is none yet.
    answer: str
    #: The answer in the shape that the agent was asked for; `None` where there is none (yet).
    output: T
    #: What the answer rests on.
    citations: list[Citation]
    #: What was found by searches of this turn, each chunk once.
    hits: list[Hit]
    usage: Usage
    spent: Spend
    steps: int
    #: Why it paused, where it did.
    pause: Pause | None = None
    #: What it waits for; `Agent.go_on` and `Agent.resume` take the answers.
    questions: list[Question] = []
    #: Why it stopped before its end.
    error: Exception | None = None
    _nested = {
        "messages": _many(Message),
        "citations": _many(Citation),
        "hits": _many(Hit),
        "usage": _one(Usage),
        "spent": _one(Spend),
        "pause": _one(Pause),
        "questions": _many(Question),
    }

    @classmethod
    def _of(cls, data: dict[str, Any], decode: Callable[[Any], Any] | None = None) -> Self:
        paused = data.pop("paused", None)
        if decode is not None and data["output"] is not None:
            data["output"] = decode(data["output"])
        result = super()._of(data)
        setattr(result, "_paused", paused)  # noqa: B010  a checker takes an annotated attribute for a field
        return result

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def is_paused(self) -> bool:
        """Whether it waits: for answers to its questions, or at a breakpoint."""
        return self.status == "paused"

    def __str__(self) -> str:
        return self.answer
