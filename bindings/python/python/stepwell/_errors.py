"""Errors by `code`: one class per code, the same words as in Rust and Node.

They are Python classes (not made in Rust), so that they carry attributes, pickle, and inherit the standard
exceptions one would look for.
"""

from __future__ import annotations

import builtins

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._records import ChatResponse


class StepwellError(Exception):
    """Whatever the engine reports. Branch on the class or on `code`; `str(error)` says what to do."""

    code: str = "internal"
    #: Whether the same call may succeed later without a change.
    retryable: bool = False
    #: Seconds the vendor asks to wait before the next try.
    retry_after: float | None = None
    #: The sentences of the errors beneath this one, nearest first.
    causes: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Callable[..., StepwellError], tuple[Any, ...]]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(cls: type[StepwellError], args: tuple[Any, ...], state: dict[str, Any]) -> StepwellError:
    error = cls(*args)
    error.__dict__.update(state)
    return error


class ProviderError(StepwellError):
    """A vendor, or the way to it, failed."""

    #: The vendor, as in `vendor/model`.
    provider: str | None = None
    #: HTTP status, where there was one.
    status: int | None = None
    #: The vendor's own word for the failure.
    kind: str | None = None
    #: The vendor's id of the request.
    request_id: str | None = None
    #: The vendor's sentence. It may quote the prompt: show it to a developer, do not log it.
    vendor_message: str | None = None


class InvalidInputError(StepwellError, ValueError):
    """An argument cannot be used."""

    code = "invalid_input"


class NotFoundError(StepwellError, LookupError):
    """A named thing is not there."""

    code = "not_found"


class UnsupportedError(StepwellError):
    """The vendor, store or index cannot do what was asked."""

    code = "unsupported"


class MissingKeyError(ProviderError):
    """No key was given."""

    code = "missing_key"


class UnauthorizedError(ProviderError):
    """The vendor refused the key."""

    code = "unauthorized"


class RejectedError(ProviderError):
    """The vendor refused the request; the same one will be refused again."""

    code = "rejected"


class QuotaExceededError(ProviderError):
    """The account has no money or quota left."""

    code = "quota_exceeded"


class RateLimitedError(ProviderError):
    """Too many requests; wait `retry_after` seconds."""

    code = "rate_limited"
    retryable = True


class OverloadedError(ProviderError):
    """The vendor failed on its side; try again."""

    code = "overloaded"
    retryable = True


class TransportError(ProviderError, ConnectionError):
    """The vendor could not be reached."""

    code = "transport"
    retryable = True


class StreamTruncatedError(ProviderError):
    """The answer broke off before its end; what had come is in `partial`."""

    code = "stream_truncated"
    retryable = True
    partial: ChatResponse | None = None


class InvalidResponseError(ProviderError):
    """The vendor sent something that cannot be read."""

    code = "invalid_response"


class SchemaMismatchError(ProviderError):
    """The answer has another shape than was asked for; it is whole in `partial`."""

    code = "schema_mismatch"
    partial: ChatResponse | None = None


class TimeoutError(StepwellError, builtins.TimeoutError):  # noqa: A001  the rule is: code, then `Error`
    """A time limit was reached; what had come of an answer that stalled is in `partial`."""

    code = "timeout"
    retryable = True
    partial: ChatResponse | None = None


class CancelledError(StepwellError):
    """The call was stopped. Where a task awaits it, `asyncio.CancelledError` is raised instead."""

    code = "cancelled"


class InterruptedRunError(StepwellError):
    """The run waits for a person; `run_id` names it, to be answered and to go on."""

    code = "interrupted"
    run_id: str | None = None


class ToolFailedError(StepwellError):
    """A tool stopped the run."""

    code = "tool_failed"


class BudgetExceededError(StepwellError):
    """The budget of the run is spent; what had come of an answer that was stopped is in `partial`."""

    code = "budget_exceeded"
    partial: ChatResponse | None = None


class LimitExceededError(StepwellError):
    """Something is larger, deeper or longer than allowed."""

    code = "limit_exceeded"


class StepLimitError(StepwellError):
    """The run took more steps than allowed."""

    code = "step_limit"


class InvalidGraphError(StepwellError, ValueError):
    """A graph cannot be built; every fault is in `faults`."""

    code = "invalid_graph"
    faults: tuple[str, ...] = ()


class InvalidUpdateError(StepwellError):
    """An update does not fit the state."""

    code = "invalid_update"


class NodeFailedError(StepwellError):
    """A node failed."""

    code = "node_failed"


class ConflictError(StepwellError):
    """Somebody else wrote in between."""

    code = "conflict"
    retryable = True


class LockedError(StepwellError):
    """Another writer holds the index or store."""

    code = "locked"
    retryable = True


class ForeignError(StepwellError):
    """The folder or file is not one of stepwell's."""

    code = "foreign"


class DamagedError(StepwellError):
    """Stored data is damaged."""

    code = "damaged"


class UnknownVersionError(StepwellError):
    """The data was written by a newer version."""

    code = "unknown_version"


class EmbedderMismatchError(StepwellError):
    """The index was made with another embedder."""

    code = "embedder_mismatch"


class PinMismatchError(StepwellError):
    """A tool of somebody else's server is not what was pinned."""

    code = "pin_mismatch"


class UnreadableError(StepwellError):
    """A document could not be read."""

    code = "unreadable"


class IoError(StepwellError, OSError):
    """A file or folder could not be read or written."""

    code = "io"

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class DiskFullError(StepwellError):
    """No room left on the disk."""

    code = "disk_full"


class StoreError(StepwellError):
    """A store failed."""

    code = "store"


class HostError(StepwellError):
    """Code of the host program failed in a way that is no Python exception."""

    code = "host"


class InternalError(StepwellError):
    """A fault of the engine itself; please report it."""

    code = "internal"


class ToolError(StepwellError):
    """What a tool raises to tell the model something. Anything else a tool raises stops the run and reaches the
    caller as the very same exception."""


class ToolRetry(ToolError):
    """The model may mend its call; the message tells it how."""

    code = "tool_retry"


class ToolFailed(ToolError):
    """It did not work; the model is told, and moves on."""

    code = "tool_failed"


def _classes(root: type[StepwellError]) -> dict[str, type[StepwellError]]:
    found: dict[str, type[StepwellError]] = {}
    for cls in root.__subclasses__():
        if "code" in cls.__dict__ and not issubclass(cls, ToolError):
            found[cls.code] = cls
        found.update(_classes(cls))
    return found


#: Every code with its class.
CODES = _classes(StepwellError)


def from_code(code: str, message: str, facts: dict[str, Any]) -> StepwellError:
    """The exception for an error of the engine."""
    error = CODES.get(code, StepwellError)(message)
    if type(error) is StepwellError:
        error.code = code
    for name in ("causes", "faults"):
        if name in facts:
            facts[name] = tuple(facts[name])
    if facts.get("partial") is not None:
        from ._records import ChatResponse

        facts["partial"] = ChatResponse._of(facts["partial"])
    for name, value in facts.items():
        if value is not None:
            setattr(error, name, value)
    return error
