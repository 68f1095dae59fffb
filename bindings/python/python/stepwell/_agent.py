"""Agents: a model and its tools, in a loop until the model answers."""

from __future__ import annotations

import os
from typing import Generic

from ._engine import native, refuse_on_background
from ._errors import InvalidInputError
from ._events import TextDelta
from ._models import ChatModel, agents, model_of, request_of
from ._records import Record, messages_of
from ._runs import ModelEvent, RunResult, answer_of, run_event_of
from ._stream import AsyncStream, SyncStream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from typing import Any, Literal, TypeAlias, overload

    from typing_extensions import TypedDict, TypeVar, Unpack

    from ._collection import Collection
    from ._documents import Filter
    from ._models import ChatOptions, Messages
    from ._runs import RunEvent
    from ._tools import Effect, Risk

    T = TypeVar("T", default=None)
    ContextPolicy: TypeAlias = "Trim | DropToolOutputs | Summarise"

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

    class ContextOptions(TypedDict, total=False):
        """How a collection is searched before the model is asked: 8 hits, 24 KiB."""

        top_k: int
        max_bytes: int
        filter: Filter
        mode: Literal["hybrid", "lexical", "dense"]
        min_score: float

    class ToolOptions(TypedDict, total=False):
        """Those of `stepwell.tool`."""

        effect: Effect
        risk: Risk
        timeout: float
        parallel: bool
        retries: int

    class AgentSettings(TypedDict, total=False):
        """What an agent may be given; see `Agent`."""

        tools: Sequence[Any]
        instructions: str | None
        template: str | None
        variables: Mapping[str, Any] | None
        name: str | None
        output_retries: int | None
        context: Collection | None
        context_options: ContextOptions | None
        context_policies: Sequence[ContextPolicy]
        policy: Literal["ask_before_effects", "allow_all"]
        limits: Limits | None
        budget: BudgetLimits | None
        store: RunStore | None
        is_synced: bool
        tenant: str | None
        actor: str | None
        options: ChatOptions | None

else:
    from typing import TypeVar

    T = TypeVar("T")


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


class RunStream(AsyncStream["RunEvent"], Generic[T]):
    """A run as it goes: `async for event in stream`. The error a run ends with is raised after its last event."""

    _decode: Callable[[Any], Any] | None = None

    async def text(self) -> AsyncIterator[str]:
        """Only the model's words, piece by piece."""
        async for event in self:
            if isinstance(event, ModelEvent) and isinstance(event.event, TextDelta):
                yield event.event.text

    async def result(self) -> RunResult[T]:
        """How the run ended or paused: what is left of the stream is read first."""
        async for _ in self:
            pass
        return _ended(self._native.result(), self._decode)


class SyncRunStream(SyncStream["RunEvent"], Generic[T]):
    """A run as it goes: `for event in stream`."""

    _decode: Callable[[Any], Any] | None = None

    def text(self) -> Iterator[str]:
        """Only the model's words, piece by piece."""
        for event in self:
            if isinstance(event, ModelEvent) and isinstance(event.event, TextDelta):
                yield event.event.text

    def result(self) -> RunResult[T]:
        """How the run ended or paused: what is left of the stream is read first."""
        for _ in self:
            pass
        return _ended(self._native.result(), self._decode)


def _ended(result: dict[str, Any] | None, decode: Callable[[Any], Any] | None) -> RunResult[Any]:
    if result is None:
        raise InvalidInputError("the stream was closed before the run's end; there is no result")
    return _result_of(result, decode)


def _result_of(data: dict[str, Any], decode: Callable[[Any], Any] | None) -> RunResult[Any]:
    return RunResult._of(data, decode)


class AgentTool(RetrieverTool):
    """An agent as a tool of another; made by `Agent.tool`."""

    def __repr__(self) -> str:
        return f"<AgentTool {self.name}>"


class Trim(Record):
    """A context policy: sends the newest turns that fit into so many tokens, and always the last `keep_turns`."""

    to_tokens: int
    keep_turns: int | None = None
    #: Sends the first question of the conversation too.
    keep_first: bool = False
    type: Literal["trim"] = "trim"


class DropToolOutputs(Record):
    """A context policy: leaves out what tools said, but for that of the last `keep_rounds` of calls and what is
    shorter than `min_bytes`."""

    keep_rounds: int | None = None
    min_bytes: int | None = None
    type: Literal["drop_tool_outputs"] = "drop_tool_outputs"


class Summarise(Record):
    """A context policy: from so many tokens on, what is older than the last `keep_turns` is sent as a summary of
    `summary_tokens` at most, made by `model`, or by the agent's own."""

    over_tokens: int
    model: ChatModel | str | None = None
    keep_turns: int | None = None
    summary_tokens: int | None = None
    type: Literal["summarise"] = "summarise"


def _tool_of(given: Any) -> native.Tool:
    if isinstance(given, RetrieverTool):
        return given._native
    if isinstance(given, Agent):
        raise InvalidInputError("an agent is no tool yet; use `agent.tool(name, description)`")
    from ._tools import native_tool

    return native_tool(given)


def _run_of(
    messages: Messages,
    run_id: str | None,
    tenant: str | None,
    actor: str | None,
    variables: Mapping[str, Any] | None,
) -> dict[str, Any]:
    return {
        "messages": list(messages_of(messages)),
        "run_id": run_id,
        "tenant": tenant,
        "actor": actor,
        "variables": None if variables is None else dict(variables),
    }


def _resume_of(
    run_id: str, answers: Mapping[str, Any] | None, tenant: str | None, actor: str | None
) -> dict[str, Any]:
    return {"resume": run_id, "tenant": tenant, "actor": actor, **_answers_of(answers)}


def _answers_of(answers: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"answers": {question: answer_of(answer) for question, answer in (answers or {}).items()}}


def _paused_of(result: RunResult[Any]) -> native.Paused:
    paused: native.Paused | None = getattr(result, "_paused", None)
    if paused is None:
        raise InvalidInputError(
            "the run is not paused in this process; a run that was kept in a store goes on with `resume`"
        )
    return paused


def _policies_of(given: Sequence[ContextPolicy], model: ChatModel) -> tuple[list[dict[str, Any]], list[native.Model]]:
    policies: list[dict[str, Any]] = []
    models: list[native.Model] = []
    for policy in given:
        if not isinstance(policy, (Trim, DropToolOutputs, Summarise)):
            raise InvalidInputError(
                f"a `{type(policy).__name__}` is no context policy; use `Trim`, `DropToolOutputs` or `Summarise`"
            )
        settings = dict(policy.__dict__)
        if isinstance(policy, Summarise):
            settings["model"] = len(models)
            models.append((model if policy.model is None else model_of(policy.model))._native)
        policies.append(settings)
    return policies, models


class Agent(Generic[T]):
    """A model and its tools.

        agent = Agent(model, tools=[weather, retriever_tool("docs", docs)], instructions="Be short.")
        result = await agent.run("Is it cold in Oslo?")
        print(result.answer)

    Async tools run on the caller's event loop, plain functions on threads of the engine, both in the caller's
    context. In a sync call async tools run on one background loop.
    """

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: Agent[None],
            model: ChatModel | str,
            *,
            output: None = None,
            **settings: Unpack[AgentSettings],
        ) -> None: ...
        @overload
        def __init__(
            self: Agent[dict[str, Any]],
            model: ChatModel | str,
            *,
            output: dict[str, Any],
            **settings: Unpack[AgentSettings],
        ) -> None: ...
        @overload
        def __init__(
            self,
            model: ChatModel | str,
            *,
            output: type[T],
            **settings: Unpack[AgentSettings],
        ) -> None: ...

    def __init__(
        self,
        model: ChatModel | str,
        *,
        output: Any = None,
        tools: Sequence[Any] = (),
        instructions: str | None = None,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        name: str | None = None,
        output_retries: int | None = None,
        context: Collection | None = None,
        context_options: ContextOptions | None = None,
        context_policies: Sequence[ContextPolicy] = (),
        policy: Literal["ask_before_effects", "allow_all"] = "ask_before_effects",
        limits: Limits | None = None,
        budget: BudgetLimits | None = None,
        store: RunStore | None = None,
        is_synced: bool = False,
        tenant: str | None = None,
        actor: str | None = None,
        options: ChatOptions | None = None,
    ) -> None:
        """`tools`: functions, `stepwell.tool`s, `retriever_tool`s and other agents' `Agent.tool`. `options` go into
        every model call.

        `instructions` are told to the model as they are. `template` is made into them anew for each run, in the syntax
        of Jinja, from `variables` and those of the run.

        `output`: the shape of the answer, as for `ChatModel.chat_as`, or a JSON Schema; `RunResult.output` is the
        answer in it. A faulty answer is told to the model, which is asked again, `output_retries` times (2).

        `context`: a collection that is searched for what the person last said, before the model is asked; what is
        found is put before the question, to be cited. `context_policies` shape what of a long conversation is sent.

        `policy`: whether calls may run; with `ask_before_effects` reading runs, while writing and sending pause the run
        and ask: `RunResult.questions` has what was asked, and `go_on` or `resume` takes an `Approval` of it. `store`
        keeps the journals of runs, `is_synced` makes each step safe before the next begins.
        """
        self.model = model_of(model)
        policies, models = _policies_of(context_policies, self.model)
        schema, self._decode = _shape_of(output)
        settings: dict[str, Any] = {
            "name": name,
            "instructions": instructions,
            "template": template,
            "variables": None if variables is None else dict(variables),
            "output": schema,
            "output_retries": output_retries,
            "context": _searching(context_options or {}),
            "context_policies": policies,
            "policy": policy,
            "limits": dict(limits or {}),
            "budget": dict(budget or {}),
            "tenant": tenant,
            "actor": actor,
            "is_synced": is_synced,
        }
        self._native = native.Agent(
            self.model._native,
            [_tool_of(tool) for tool in tools],
            None if store is None else store._native,
            None if context is None else context._native,
            models,
            request_of([], options or {}),
            settings,
        )

    def _result(self, data: dict[str, Any]) -> RunResult[T]:
        return _result_of(data, self._decode)

    def _done(self, data: dict[str, Any]) -> RunResult[T]:
        if data["error"] is not None:
            raise data["error"]
        return self._result(data)

    async def run(
        self,
        messages: Messages,
        *,
        variables: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        tenant: str | None = None,
        actor: str | None = None,
    ) -> RunResult[T]:
        """Runs it on words or a conversation, until it ends or pauses. Cancelling the task stops model and tools."""
        return self._done(await self._native.outcome(_run_of(messages, run_id, tenant, actor, variables)))

    def run_sync(
        self,
        messages: Messages,
        *,
        variables: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        tenant: str | None = None,
        actor: str | None = None,
    ) -> RunResult[T]:
        """The blocking twin of `run`; it works inside a running event loop too."""
        refuse_on_background()
        return self._done(self._native.outcome_sync(_run_of(messages, run_id, tenant, actor, variables)))

    async def outcome(
        self,
        messages: Messages,
        *,
        variables: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        tenant: str | None = None,
        actor: str | None = None,
    ) -> RunResult[T]:
        """As `run`, but a run that failed is not raised: `error` tells why, `messages` has what had finished."""
        return self._result(await self._native.outcome(_run_of(messages, run_id, tenant, actor, variables)))

    def outcome_sync(
        self,
        messages: Messages,
        *,
        variables: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        tenant: str | None = None,
        actor: str | None = None,
    ) -> RunResult[T]:
        """The blocking twin of `outcome`."""
        refuse_on_background()
        return self._result(self._native.outcome_sync(_run_of(messages, run_id, tenant, actor, variables)))

    def stream(
        self,
        messages: Messages,
        *,
        variables: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        tenant: str | None = None,
        actor: str | None = None,
    ) -> RunStream[T]:
        """Runs it and gives what happens, as it happens. Leaving the stream stops the run."""
        run = _run_of(messages, run_id, tenant, actor, variables)
        stream: RunStream[T] = RunStream(self._native.stream(run), run_event_of)
        stream._decode = self._decode
        return stream

    def stream_sync(
        self,
        messages: Messages,
        *,
        variables: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        tenant: str | None = None,
        actor: str | None = None,
    ) -> SyncRunStream[T]:
        """The blocking twin of `stream`."""
        refuse_on_background()
        run = _run_of(messages, run_id, tenant, actor, variables)
        stream: SyncRunStream[T] = SyncRunStream(self._native.stream(run, blocking=True), run_event_of)
        stream._decode = self._decode
        return stream

    async def resume(
        self,
        run_id: str,
        *,
        answers: Mapping[str, Any] | None = None,
        tenant: str | None = None,
        actor: str | None = None,
    ) -> RunResult[T]:
        """Goes on with a run from the agent's store. `answers`: to questions it waits for, by their ids; whether a
        tool may be called is answered with an `Approval`. Questions without an answer stay."""
        return self._done(await self._native.outcome(_resume_of(run_id, answers, tenant, actor)))

    def resume_sync(
        self,
        run_id: str,
        *,
        answers: Mapping[str, Any] | None = None,
        tenant: str | None = None,
        actor: str | None = None,
    ) -> RunResult[T]:
        """The blocking twin of `resume`."""
        refuse_on_background()
        return self._done(self._native.outcome_sync(_resume_of(run_id, answers, tenant, actor)))

    async def go_on(self, result: RunResult[T], *, answers: Mapping[str, Any] | None = None) -> RunResult[T]:
        """Goes on with a run of this agent that paused, with a store or without; once. `answers` are as for `resume`."""
        return self._done(await self._native.outcome(_answers_of(answers), _paused_of(result)))

    def go_on_sync(self, result: RunResult[T], *, answers: Mapping[str, Any] | None = None) -> RunResult[T]:
        """The blocking twin of `go_on`."""
        refuse_on_background()
        return self._done(self._native.outcome_sync(_answers_of(answers), _paused_of(result)))

    def tool(self, name: str, description: str, **options: Unpack[ToolOptions]) -> AgentTool:
        """The agent as a tool of another, which hands it a task and reads its answer.

        Its run is inside of the caller's: it spends from the same budget, stops with it, its questions are the run's.
        `options` are those of `stepwell.tool`.
        """
        return AgentTool(self._native.tool(name, description, dict(options)))

    def __repr__(self) -> str:
        return f"<Agent {self.model.info.name}>"


def _searching(options: ContextOptions) -> dict[str, Any]:
    settings: dict[str, Any] = dict(options)
    if (given := options.get("filter")) is not None:
        settings["filter"] = given._tree
    return settings


def _shape_of(output: Any) -> tuple[dict[str, Any] | None, Callable[[Any], Any] | None]:
    if output is None or isinstance(output, dict):
        return output, None
    from ._schema import shape_of

    return shape_of(output)


def register_agent(name: str, agent: Agent[Any]) -> None:
    """Makes an agent a model: `model("agent/<name>")`, for whoever asks a model. Every request is a run."""
    agents[name] = ChatModel(agent._native.as_model(name))


__all__ = [
    "Agent",
    "AgentTool",
    "DropToolOutputs",
    "RetrieverTool",
    "RunStore",
    "RunStream",
    "Summarise",
    "SyncRunStream",
    "Trim",
    "register_agent",
    "retriever_tool",
]
