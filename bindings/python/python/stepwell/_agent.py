"""Agents: a model and its tools, in a loop until the model answers."""

from __future__ import annotations

import os

from ._engine import native, refuse_on_background
from ._errors import InvalidInputError
from ._events import TextDelta
from ._models import model_of, request_of
from ._records import messages_of
from ._runs import ModelEvent, RunResult, run_event_of
from ._stream import AsyncStream, SyncStream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from typing import Any, Literal

    from typing_extensions import TypedDict

    from ._collection import Collection
    from ._models import ChatModel, ChatOptions, Messages
    from ._runs import RunEvent

    class Limits(TypedDict, total=False):
        """Bounds on what comes from outside; `tool_timeout` is in seconds."""

        steps: int
        tool_calls: int
        tool_output_bytes: int
        tool_timeout: float
        answer_bytes: int
        tool_retries: int

    class BudgetLimits(TypedDict, total=False):
        """What each run may spend."""

        micro_usd: int
        tokens: int
        calls: int
        time_ms: int


class RetrieverTool:
    """A collection as a tool; made by `retriever_tool`."""

    def __init__(self, native_tool: native.Tool) -> None:
        self._native = native_tool

    @property
    def name(self) -> str:
        """What the model calls it."""
        return self._native.name

    @property
    def description(self) -> str:
        """What the model reads about it."""
        return self._native.description

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON Schema of the arguments."""
        return self._native.parameters

    def __repr__(self) -> str:
        return f"<RetrieverTool {self.name}>"


def retriever_tool(
    name: str, collection: Collection, *, about: str | None = None, top_k: int | None = None
) -> RetrieverTool:
    """A tool that searches a collection, so that a model can find and cite.

    `about` says what can be found there; `top_k` is how many hits it gives where the model asks for no number.
    """
    return RetrieverTool(native.collection_tool(name, collection._native, about=about, top_k=top_k))


class RunStore:
    """Where the journals of runs are kept, so that they can be resumed."""

    def __init__(self, native_store: native.RunStore) -> None:
        self._native = native_store

    @classmethod
    def memory(cls) -> RunStore:
        """For as long as the process lives."""
        return cls(native.RunStore.memory())

    @classmethod
    def sqlite(cls, path: str | os.PathLike[str]) -> RunStore:
        """In a SQLite file, made when it is not there."""
        return cls(native.RunStore.sqlite(os.fspath(path)))


class RunStream(AsyncStream["RunEvent"]):
    """A run as it goes: `async for event in stream`. The error a run ends with is raised after its last event."""

    async def text(self) -> AsyncIterator[str]:
        """Only the model's words, piece by piece."""
        async for event in self:
            if isinstance(event, ModelEvent) and isinstance(event.event, TextDelta):
                yield event.event.text

    async def result(self) -> RunResult:
        """How the run ended: what is left of the stream is read first."""
        async for _ in self:
            pass
        return _ended(self._native.result())


class SyncRunStream(SyncStream["RunEvent"]):
    """A run as it goes: `for event in stream`."""

    def text(self) -> Iterator[str]:
        """Only the model's words, piece by piece."""
        for event in self:
            if isinstance(event, ModelEvent) and isinstance(event.event, TextDelta):
                yield event.event.text

    def result(self) -> RunResult:
        """How the run ended: what is left of the stream is read first."""
        for _ in self:
            pass
        return _ended(self._native.result())


def _ended(result: dict[str, Any] | None) -> RunResult:
    if result is None:
        raise InvalidInputError("the stream was closed before the run's end; there is no result")
    return RunResult._of(result)


def _tool_of(given: Any) -> native.Tool:
    if isinstance(given, RetrieverTool):
        return given._native
    from ._tools import native_tool

    return native_tool(given)


def _run_of(messages: Messages, run_id: str | None, tenant: str | None, actor: str | None) -> dict[str, Any]:
    return {"messages": list(messages_of(messages)), "run_id": run_id, "tenant": tenant, "actor": actor}


def _resume_of(run_id: str, tenant: str | None, actor: str | None) -> dict[str, Any]:
    return {"resume": run_id, "tenant": tenant, "actor": actor}


def _done(data: dict[str, Any]) -> RunResult:
    result = RunResult._of(data)
    if result.error is not None:
        raise result.error
    return result


class Agent:
    """A model and its tools.

        agent = Agent(model, tools=[weather, retriever_tool("docs", docs)], instructions="Be short.")
        result = await agent.run("Is it cold in Oslo?")
        print(result.answer)

    Async tools run on the caller's event loop, plain functions on threads of the engine, both in the caller's
    context. In a sync call async tools run on one background loop.
    """

    def __init__(
        self,
        model: ChatModel | str,
        *,
        tools: Sequence[Any] = (),
        instructions: str | None = None,
        name: str | None = None,
        policy: Literal["ask_before_effects", "allow_all"] = "ask_before_effects",
        limits: Limits | None = None,
        budget: BudgetLimits | None = None,
        store: RunStore | None = None,
        is_synced: bool = False,
        tenant: str | None = None,
        actor: str | None = None,
        options: ChatOptions | None = None,
    ) -> None:
        """`tools`: functions, `stepwell.tool`s and `retriever_tool`s. `options` go into every model call.

        `policy`: whether calls may run; `ask_before_effects` lets reading run, while writing and sending need a person's
        approval, which cannot be given yet: the model is told so. `store` keeps the journals of runs,
        `is_synced` makes each step safe before the next begins.
        """
        settings: dict[str, Any] = {
            "name": name,
            "instructions": instructions,
            "policy": policy,
            "limits": dict(limits or {}),
            "budget": dict(budget or {}),
            "tenant": tenant,
            "actor": actor,
            "is_synced": is_synced,
        }
        self.model = model_of(model)
        self._native = native.Agent(
            self.model._native,
            [_tool_of(tool) for tool in tools],
            None if store is None else store._native,
            request_of([], options or {}),
            settings,
        )

    async def run(
        self,
        messages: Messages,
        *,
        run_id: str | None = None,
        tenant: str | None = None,
        actor: str | None = None,
    ) -> RunResult:
        """Runs it on words or a conversation. Cancelling the task stops model and tools."""
        return _done(await self._native.outcome(_run_of(messages, run_id, tenant, actor)))

    def run_sync(
        self,
        messages: Messages,
        *,
        run_id: str | None = None,
        tenant: str | None = None,
        actor: str | None = None,
    ) -> RunResult:
        """The blocking twin of `run`; it works inside a running event loop too."""
        refuse_on_background()
        return _done(self._native.outcome_sync(_run_of(messages, run_id, tenant, actor)))

    async def outcome(
        self,
        messages: Messages,
        *,
        run_id: str | None = None,
        tenant: str | None = None,
        actor: str | None = None,
    ) -> RunResult:
        """As `run`, but a run that failed is not raised: `error` tells why, `messages` has what had finished."""
        return RunResult._of(await self._native.outcome(_run_of(messages, run_id, tenant, actor)))

    def outcome_sync(
        self,
        messages: Messages,
        *,
        run_id: str | None = None,
        tenant: str | None = None,
        actor: str | None = None,
    ) -> RunResult:
        """The blocking twin of `outcome`."""
        refuse_on_background()
        return RunResult._of(self._native.outcome_sync(_run_of(messages, run_id, tenant, actor)))

    def stream(
        self,
        messages: Messages,
        *,
        run_id: str | None = None,
        tenant: str | None = None,
        actor: str | None = None,
    ) -> RunStream:
        """Runs it and gives what happens, as it happens. Leaving the stream stops the run."""
        return RunStream(self._native.stream(_run_of(messages, run_id, tenant, actor)), run_event_of)

    def stream_sync(
        self,
        messages: Messages,
        *,
        run_id: str | None = None,
        tenant: str | None = None,
        actor: str | None = None,
    ) -> SyncRunStream:
        """The blocking twin of `stream`."""
        refuse_on_background()
        native_stream = self._native.stream(_run_of(messages, run_id, tenant, actor), blocking=True)
        return SyncRunStream(native_stream, run_event_of)

    async def resume(self, run_id: str, *, tenant: str | None = None, actor: str | None = None) -> RunResult:
        """Goes on with a run from the agent's store."""
        return _done(await self._native.outcome(_resume_of(run_id, tenant, actor)))

    def resume_sync(self, run_id: str, *, tenant: str | None = None, actor: str | None = None) -> RunResult:
        """The blocking twin of `resume`."""
        refuse_on_background()
        return _done(self._native.outcome_sync(_resume_of(run_id, tenant, actor)))

    def __repr__(self) -> str:
        return f"<Agent {self.model.info.name}>"


__all__ = ["Agent", "RetrieverTool", "RunStore", "RunStream", "SyncRunStream", "retriever_tool"]
