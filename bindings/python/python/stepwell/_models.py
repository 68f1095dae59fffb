"""Models: by name, or played by a Python function."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from ._engine import native, refuse_on_background
from ._errors import InvalidInputError, UnsupportedError
from ._events import TextDelta, event_of
from ._layers import vendor_options
from ._records import ChatResponse, Message, ModelInfo, Text, Usage, messages_of
from ._stream import AsyncStream, SyncStream

T = TypeVar("T")

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
    from typing import Any, Literal, TypeAlias

    from typing_extensions import Self, TypedDict, Unpack

    from ._embedders import Embedder
    from ._events import StreamEvent
    from ._layers import (
        Breaker,
        Budget,
        Cache,
        CacheOptions,
        FallbackOptions,
        RateLimiter,
        RetryOptions,
        TimeoutOptions,
        VendorOptions,
    )
    from ._records import Part

    #: A question, a turn, or a conversation.
    Messages: TypeAlias = str | Message | Sequence[str | Message]

    class ChatOptions(TypedDict, total=False):
        """What can be asked of a model beside the messages."""

        tools: Sequence[Any]
        tool_choice: Literal["auto", "none", "any"] | dict[str, str]
        parallel_tool_calls: bool | None
        response_format: Literal["text", "json"] | type[Any] | dict[str, Any]
        structured: Literal["native", "final_tool", "prompted", "two_phase"] | None
        max_output_tokens: int | None
        temperature: float | None
        top_p: float | None
        top_k: int | None
        stop_sequences: Sequence[str]
        seed: int | None
        reasoning: dict[str, Any]
        cache: Literal["points", "automatic"]
        metadata: dict[str, str]
        provider_options: dict[str, Any]
        include_raw: bool

    #: What a Python model may answer with.
    HostAnswer: TypeAlias = str | Message | ChatResponse


def request_of(messages: Messages, options: ChatOptions) -> dict[str, Any]:
    """A request as the engine reads it."""
    request: dict[str, Any] = {"messages": list(messages_of(messages)), **options}
    if "tools" in request:
        request["tools"] = [_spec(tool) for tool in request["tools"]]
    shape = request.get("response_format")
    if shape is not None and not isinstance(shape, str):
        request["response_format"] = {"schema": _shape(shape)}
    return request


def _spec(tool: Any) -> dict[str, Any]:
    if isinstance(tool, dict):
        return dict(tool)
    from ._tools import Tool

    made: Tool[Any] = tool if isinstance(tool, Tool) else Tool(tool)
    return made.spec


def _shape(shape: Any) -> dict[str, Any]:
    if isinstance(shape, dict):
        is_named = shape.keys() == {"name", "schema"}
        return dict(shape) if is_named else {"name": "answer", "schema": shape}
    from ._schema import schema_of

    return {"name": shape.__name__, "schema": schema_of(shape)}


class ChatStream(AsyncStream["StreamEvent"]):
    """An answer as it comes: `async for event in stream`."""

    async def text(self) -> AsyncIterator[str]:
        """Only the words, piece by piece."""
        async for event in self:
            if isinstance(event, TextDelta):
                yield event.text

    async def response(self) -> ChatResponse:
        """The whole answer: what is left of the stream is read first."""
        async for _ in self:
            pass
        return _response(self._native.result())


class SyncChatStream(SyncStream["StreamEvent"]):
    """An answer as it comes: `for event in stream`."""

    def text(self) -> Iterator[str]:
        """Only the words, piece by piece."""
        for event in self:
            if isinstance(event, TextDelta):
                yield event.text

    def response(self) -> ChatResponse:
        """The whole answer: what is left of the stream is read first."""
        for _ in self:
            pass
        return _response(self._native.result())


def _response(result: dict[str, Any] | None) -> ChatResponse:
    if result is None:
        raise InvalidInputError("the stream was closed before its end; there is no whole answer")
    return ChatResponse._of(result)


class TypedAnswer(Generic[T]):
    """An answer as a value of the type it was asked for, and all that came beside it."""

    __slots__ = ("response", "value")

    def __init__(self, value: T, response: ChatResponse) -> None:
        self.value = value
        self.response = response

    def __repr__(self) -> str:
        return f"TypedAnswer({self.value!r})"


def _asked_as(shape: Any, messages: Messages, options: ChatOptions) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    from ._schema import shape_of

    if "response_format" in options:
        raise InvalidInputError("response_format: the type that is asked for says it already")
    schema, decode = shape_of(shape)
    named = {"name": getattr(shape, "__name__", "answer"), "schema": schema}
    return request_of(messages, {**options, "response_format": named}), decode


def _typed(answer: dict[str, Any], decode: Callable[[Any], Any]) -> TypedAnswer[Any]:
    return TypedAnswer(decode(answer["value"]), ChatResponse._of(answer["response"]))


class ChatModel:
    """A model that continues a conversation. Get one with `stepwell.model("vendor/name")`."""

    def __init__(self, native_model: native.Model) -> None:
        self._native = native_model

    @property
    def info(self) -> ModelInfo:
        """Which model, and what is known of it."""
        return ModelInfo._of(self._native.info)

    async def chat(self, messages: Messages, **options: Unpack[ChatOptions]) -> ChatResponse:
        """The whole answer. Cancelling the task cancels the call."""
        return ChatResponse._of(await self._native.chat(request_of(messages, options)))

    def chat_sync(self, messages: Messages, **options: Unpack[ChatOptions]) -> ChatResponse:
        """The blocking twin of `chat`; it works inside a running event loop too."""
        refuse_on_background()
        return ChatResponse._of(self._native.chat_sync(request_of(messages, options)))

    def stream(self, messages: Messages, **options: Unpack[ChatOptions]) -> ChatStream:
        """The answer as events. The call starts at once, on the running loop; leaving the stream cancels it."""
        return ChatStream(self._native.stream(request_of(messages, options)), event_of)

    def stream_sync(self, messages: Messages, **options: Unpack[ChatOptions]) -> SyncChatStream:
        """The blocking twin of `stream`."""
        refuse_on_background()
        return SyncChatStream(self._native.stream(request_of(messages, options), blocking=True), event_of)

    async def chat_as(
        self, shape: type[T], messages: Messages, **options: Unpack[ChatOptions]
    ) -> TypedAnswer[T]:
        """The answer as a value of this type: a dataclass, a `TypedDict`, a Pydantic model, anything a tool's argument
        may be. An answer of another shape raises `SchemaMismatchError`, with the whole answer as its `partial`."""
        request, decode = _asked_as(shape, messages, options)
        return _typed(await self._native.chat_value(request), decode)

    def chat_as_sync(
        self, shape: type[T], messages: Messages, **options: Unpack[ChatOptions]
    ) -> TypedAnswer[T]:
        """The blocking twin of `chat_as`."""
        refuse_on_background()
        request, decode = _asked_as(shape, messages, options)
        return _typed(self._native.chat_value_sync(request), decode)

    async def count_tokens(self, messages: Messages, **options: Unpack[ChatOptions]) -> Usage:
        """How many tokens a request has: counted by the vendor where it can, else an estimate, flagged."""
        return Usage._of(await self._native.count_tokens(request_of(messages, options)))

    def count_tokens_sync(self, messages: Messages, **options: Unpack[ChatOptions]) -> Usage:
        """The blocking twin of `count_tokens`."""
        refuse_on_background()
        return Usage._of(self._native.count_tokens_sync(request_of(messages, options)))

    # Layers: each gives a model around this one, and the one put on last is the outermost.

    def with_retry(self, **options: Unpack[RetryOptions]) -> ChatModel:
        """Asks again when a call fails before its first word. The outermost retry is the only one."""
        return ChatModel(self._native.with_retry(options))

    def with_timeouts(self, **options: Unpack[TimeoutOptions]) -> ChatModel:
        """Bounds the time to the first event, between events, and in all."""
        return ChatModel(self._native.with_timeouts(options))

    def with_rate_limit(self, limiter: RateLimiter) -> ChatModel:
        """Waits until the account may send the request."""
        return ChatModel(self._native.with_rate_limit(limiter._native))

    def with_breaker(self, breaker: Breaker) -> ChatModel:
        """Fails at once while the endpoint is down."""
        return ChatModel(self._native.with_breaker(breaker._native))

    def with_fallback(self, *others: ChatModel, **options: Unpack[FallbackOptions]) -> ChatModel:
        """Asks these models, in order, when this one cannot answer."""
        return ChatModel(self._native.with_fallback([other._native for other in others], options))

    def with_cache(
        self, cache: Cache, *, tenant: str | None = None, **options: Unpack[CacheOptions]
    ) -> ChatModel:
        """Gives answers again that were given to this tenant before. Leave it off where each is to be a new one."""
        return ChatModel(self._native.with_cache(cache._native, tenant, options))

    def with_budget(self, budget: Budget) -> ChatModel:
        """Spends from a budget; at its limit the answer stops with `BudgetExceededError`."""
        return ChatModel(self._native.with_budget(budget._native))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.info.name}>"


class HostModel(ChatModel):
    """A model that a Python function plays.

    The function takes the request (a dict: `messages` are `Message` records, the options under their names) and
    returns text, a `Message` or a `ChatResponse`; an async generator yields text pieces or `StreamEvent`s.
    """

    def __init__(
        self,
        function: Callable[
            [dict[str, Any]], HostAnswer | Awaitable[HostAnswer] | AsyncIterator[str | StreamEvent]
        ],
        name: str = "host/function",
    ) -> None:
        from ._tools import is_async_callable

        provider, _, model = name.partition("/")
        if not provider or not model:
            raise InvalidInputError(f"`{name}` is no model name; write `vendor/name`")
        is_async = is_async_callable(function)
        play = _play_async if is_async else _play
        super().__init__(native.Model.host(provider, model, play(function), is_async))


def _seen(request: dict[str, Any]) -> dict[str, Any]:
    request["messages"] = [Message._of(message) for message in request["messages"]]
    return request


def _play(function: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    def play(request: dict[str, Any]) -> Any:
        answer = function(_seen(request))
        if hasattr(answer, "__anext__"):
            return _Steps(answer)
        if hasattr(answer, "__await__"):
            return _whole_later(answer)
        return _whole(answer)

    return play


def _play_async(function: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    async def play(request: dict[str, Any]) -> Any:
        return _whole(await function(_seen(request)))

    return play


async def _whole_later(answer: Awaitable[Any]) -> Any:
    return _whole(await answer)


def _whole(answer: Any) -> dict[str, Any]:
    if isinstance(answer, str):
        answer = Message.assistant(answer)
    if isinstance(answer, Message):
        return {"message": answer}
    if isinstance(answer, ChatResponse):
        return {"message": answer.message, "finish_reason": answer.finish_reason, "usage": answer.usage}
    raise InvalidInputError(
        f"a Python model answered with a `{type(answer).__name__}`; return text, a Message or a ChatResponse"
    )


class _Steps:
    """An async generator as the engine reads it: a list of events per `next()`, then `None`.

    One task drives the generator from its first item to its end, so that cancelling it (the engine's doing, or a
    loop's that shuts down) always reaches the generator, and no step begins after that.
    """

    _AHEAD = 64

    def __init__(self, source: AsyncIterator[Any]) -> None:
        self._source = source
        self._ready: deque[Any] = deque()
        self._driver: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._is_over = False
        self._has_text = False

    async def next(self) -> list[Any] | None:
        import asyncio

        if self._driver is None:
            self._filled, self._room = asyncio.Event(), asyncio.Event()
            self._driver = asyncio.ensure_future(self._drive())
        while not self._ready:
            if self._is_over:
                return self._end()
            self._filled.clear()
            await self._filled.wait()
        events: list[Any] = []
        while self._ready:
            events.extend(self._events(self._ready.popleft()))
        self._room.set()
        return events

    def close(self) -> None:
        if self._driver is not None:
            self._driver.cancel()

    async def _drive(self) -> None:
        try:
            async for item in self._source:
                self._ready.append(item)
                self._filled.set()
                while len(self._ready) >= self._AHEAD:
                    self._room.clear()
                    await self._room.wait()
        except BaseException as error:
            self._error = error
            if not isinstance(error, Exception):
                raise  # a cancelled task has to end as one
        finally:
            self._is_over = True
            self._filled.set()

    def _events(self, item: Any) -> list[Any]:
        if not isinstance(item, str):
            return [item]
        delta = {"type": "text_delta", "index": 0, "text": item}
        if self._has_text:
            return [delta]
        self._has_text = True
        return [{"type": "text_start", "index": 0}, delta]

    def _end(self) -> list[Any] | None:
        """Text pieces need no end mark of their own; a generator of events brings it itself."""
        if self._error is not None:
            raise self._error
        if not self._has_text:
            return None
        self._has_text = False
        return [{"type": "text_end", "index": 0}, {"type": "finish", "reason": "stop"}]


_vendors: dict[str, Callable[[str], ChatModel]] = {}
#: Agents as models, by the name behind `agent/`; `register_agent` fills it.
agents: dict[str, ChatModel] = {}


def register(vendor: str, factory: Callable[[str], ChatModel]) -> None:
    """Adds a vendor of your own, or takes the place of one: `factory` gets what stands behind `vendor/`."""
    if not vendor or "/" in vendor or ":" in vendor:
        raise InvalidInputError(f"`{vendor}` is no vendor's name; it is the part before the `/`")
    _vendors[vendor] = factory


def register_compatible(vendor: str, base_url: str, quirks: dict[str, Any] | None = None) -> None:
    """Adds a server of your own that speaks Chat Completions at an address with its `/v1`. A key, where it wants one,
    is read from `MY_VENDOR_API_KEY` for the name `my-vendor`. `quirks` says how it differs from most such servers."""
    native.register_compatible(vendor, base_url, quirks or {})
    _vendors.pop(vendor, None)


def model(name: str, *, is_bare: bool = False, **options: Unpack[VendorOptions]) -> ChatModel:
    """The model of a name such as `anthropic/claude-sonnet-5` or `openai/gpt-6-sol`; `extractive` needs no key.

    Key and address are read from the environment (`ANTHROPIC_API_KEY`, `OPENAI_BASE_URL` …) where not given here. A
    call that fails before its first word is made again, unless `is_bare`.
    """
    vendor, _, rest = name.strip().replace(":", "/", 1).partition("/")
    if vendor == "agent" and rest in agents:
        if options or is_bare:
            raise UnsupportedError("an agent has its own model; give that what it needs")
        return agents[rest]
    own = _vendors.get(vendor)
    if own is not None and rest:
        if options or is_bare:
            raise UnsupportedError(f"`{vendor}` is a vendor of this program; give its factory what it needs")
        return own(rest)
    return ChatModel(native.Model.named(name, *vendor_options(options, is_bare=is_bare or None)))


class Extractive(ChatModel):
    """A model without a key, a network or a hallucination: it asks the search tools it is given, then answers with
    the best sentences of what was found, each with its citation, or says `not found in these documents`."""

    def __init__(self, embedder: Embedder | None = None) -> None:
        if embedder is None:
            from ._embedders import shared_minilm

            embedder = shared_minilm()
        super().__init__(native.Model.extractive(embedder._native))


class Scripted(ChatModel):
    """A model that plays a script, for tests, docs and examples: each step answers one request.

        Scripted("first answer").call("weather", {"city": "Oslo"}).say("It is cold.")
    """

    def __init__(
        self,
        *answers: str,
        name: str = "scripted/script",
        delta_chars: int | None = None,
        pace: float | None = None,
    ) -> None:
        self._script = native.Script(name, delta_chars, pace)
        super().__init__(self._script.model())
        for answer in answers:
            self.say(answer)

    def say(self, text: str) -> Self:
        """The next answer is this text."""
        return self.answer([Text(text=text, origin="model")])

    def answer(self, parts: Sequence[Part]) -> Self:
        """The next answer has these parts."""
        self._script.answer(list(parts))
        return self

    def call(self, tool: str, arguments: dict[str, Any]) -> Self:
        """The next answer is a call of this tool."""
        return self.calls([(tool, arguments)])

    def calls(self, calls: Sequence[tuple[str, dict[str, Any]]]) -> Self:
        """The next answer calls several tools at once."""
        self._script.calls(list(calls))
        return self

    def fail(self, error: Exception, *, after: str | None = None) -> Self:
        """The next request fails with this very exception, after this text where there is some."""
        self._script.fail(error, after)
        return self

    def break_off(self, text: str) -> Self:
        """The next answer begins with this text and breaks off without its end mark."""
        self._script.break_off(text)
        return self

    @property
    def requests(self) -> list[dict[str, Any]]:
        """What was asked so far, oldest first; `messages` are records."""
        return [_seen(request) for request in self._script.requests()]

    @property
    def remaining(self) -> int:
        """How many steps have not been played."""
        return self._script.remaining


def model_of(given: ChatModel | str) -> ChatModel:
    """A model, or the name of one."""
    if isinstance(given, ChatModel):
        return given
    if isinstance(given, str):
        return model(given)
    raise InvalidInputError(f"a `{type(given).__name__}` is no model; use `stepwell.model(\"vendor/name\")`")


__all__ = [
    "ChatModel",
    "ChatStream",
    "Extractive",
    "HostModel",
    "Scripted",
    "SyncChatStream",
    "TypedAnswer",
    "agents",
    "model",
    "model_of",
    "register",
    "register_compatible",
    "request_of",
]
