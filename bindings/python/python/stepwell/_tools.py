"""Tools from Python functions: the signature, the docstring and the annotations say it all.

    @stepwell.tool
    def weather(city: str, unit: Literal["C", "F"] = "C") -> str:
        \"\"\"Current temperature of a city.

        Args:
            city: City and country, for example `Oslo, Norway`.
        \"\"\"

The model reads the docstring; its arguments are checked against the schema before the function is called, and
arrive as the annotated types.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Literal, TypeVar, overload

from ._engine import native, refuse_on_background
from ._errors import InvalidInputError, ToolFailed, ToolRetry
from ._records import Part, part_of
from ._schema import Decode, Reader, _object, hints_of, parse_docstring, to_json, with_default

ToolContext = native.ToolContext
Effect = Literal["pure", "idempotent", "at_most_once"]
Risk = Literal["read", "write", "egress"]
F = TypeVar("F", bound=Callable[..., Any])


class Tool(Generic[F]):
    """A function that models may call. It can still be called as the function it was."""

    def __init__(
        self,
        function: F,
        *,
        name: str | None = None,
        description: str | None = None,
        effect: Effect = "pure",
        risk: Risk = "read",
        timeout: float | None = None,
        parallel: bool = True,
        retries: int = 0,
    ) -> None:
        told, parameters, decoders, context = _read_signature(function)
        name = name or _name_of(function)
        is_async = is_async_callable(function)
        call = _async_door if is_async else _sync_door
        options: dict[str, Any] = {"effect": effect, "risk": risk, "timeout": timeout, "parallel": parallel}
        options["retries"] = retries
        self.function = function
        self._native = native.Tool(
            name,
            told if description is None else description,
            parameters,
            call(function, decoders, context),
            is_async,
            options,
        )
        self.__doc__ = function.__doc__
        self.__wrapped__ = function  # what `inspect` follows
        self.__name__ = name

    if typing.TYPE_CHECKING:  # calling the tool is calling the function, with its own types

        @property
        def __call__(self) -> F: ...

    else:

        def __call__(self, *args, **kwargs):
            return self.function(*args, **kwargs)

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

    @property
    def spec(self) -> dict[str, Any]:
        """What the model sees."""
        return {"name": self.name, "description": self.description, "parameters": self.parameters}

    async def call(self, arguments: dict[str, Any]) -> list[Part]:
        """Calls it as a runner does: arguments checked, answer as parts."""
        return [part_of(part) for part in await self._native.call(arguments)]

    def call_sync(self, arguments: dict[str, Any]) -> list[Part]:
        """The blocking twin of `call`."""
        refuse_on_background()
        return [part_of(part) for part in self._native.call_sync(arguments)]

    def __repr__(self) -> str:
        return f"<Tool {self.name}>"


@overload
def tool(function: F, /) -> Tool[F]: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    effect: Effect = "pure",
    risk: Risk = "read",
    timeout: float | None = None,
    parallel: bool = True,
    retries: int = 0,
) -> Callable[[F], Tool[F]]: ...
def tool(function: Any = None, /, **options: Any) -> Any:
    """Makes a function a tool; with or without options.

    `effect`: what doing a call twice would do (`pure`: nothing, `idempotent`: the same, `at_most_once`: harm).
    `risk`: what it may touch (`read`, `write`, `egress`: sends something out); all but `read` is asked about first.
    `timeout`: seconds of one call. `parallel`: whether it may run beside other calls of the same turn.
    `retries`: how often a call that failed is tried again before the model is told; never of `at_most_once`.
    """
    if function is None:
        return lambda function: Tool(function, **options)
    return Tool(function, **options)


def native_tool(given: Any) -> native.Tool:
    """The engine's side of whatever was given as a tool."""
    if isinstance(given, Tool):
        return given._native
    if callable(given):
        return Tool(given)._native
    raise InvalidInputError(f"a `{type(given).__name__}` is no tool; give a function or a `stepwell.tool`")


def is_async_callable(function: Any) -> bool:
    """Whether calling it gives a coroutine; sees through partials and objects with an async `__call__`."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)
    )


def _name_of(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", None) or type(function).__name__


def _read_signature(function: Any) -> tuple[str, dict[str, Any], dict[str, Decode], str | None]:
    """Description, schema, decoders, and the parameter that takes the context."""
    if not callable(function) or isinstance(function, type):
        raise InvalidInputError(f"`{function!r}` is no function; a tool is a function with annotated parameters")
    name = _name_of(function)
    bound: set[str] = set()
    plain = function
    while isinstance(plain, functools.partial):
        bound.update(plain.keywords)
        plain = plain.func
    documented = plain if inspect.isroutine(plain) else type(plain).__call__
    doc = inspect.getdoc(plain) if inspect.isroutine(plain) else (documented.__doc__ or type(plain).__doc__)
    description, told = parse_docstring(doc)
    hints = hints_of(inspect.unwrap(documented))
    reader = Reader(f"tool `{name}`")
    properties: dict[str, Any] = {}
    required: list[str] = []
    decoders: dict[str, Decode] = {}
    context: str | None = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise InvalidInputError(f"tool `{name}`: name every parameter; a model cannot fill `{parameter}`")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise InvalidInputError(f"tool `{name}`: `{parameter.name}` is positional-only; arguments come by name")
        if parameter.name in bound:
            continue
        hint = hints.get(parameter.name, parameter.empty)
        if hint is ToolContext:
            context = parameter.name
            continue
        schema, decoders[parameter.name] = reader.read(hint)
        if parameter.name in told and "description" not in schema:
            schema = {**schema, "description": told[parameter.name]}
        if parameter.default is parameter.empty:
            required.append(parameter.name)
        else:
            schema = with_default(schema, parameter.default)
        properties[parameter.name] = schema
    parameters = _object(properties, required)
    if reader.definitions:
        parameters["$defs"] = reader.definitions
    return description, parameters, decoders, context


def _arguments(
    decoders: dict[str, Decode], context: str | None, given: dict[str, Any], cx: ToolContext
) -> dict[str, Any]:
    try:
        arguments = {key: decoders[key](value) for key, value in given.items()}
    except (TypeError, ValueError, KeyError) as error:
        raise ToolRetry(f"the arguments do not fit: {error}") from error
    if context is not None:
        arguments[context] = cx
    return arguments


def _sync_door(
    function: Callable[..., Any], decoders: dict[str, Decode], context: str | None
) -> Callable[[dict[str, Any], ToolContext], Any]:
    """What the engine calls for a plain function: it answers a door and a value."""

    def call(given: dict[str, Any], cx: ToolContext) -> Any:
        try:
            value = function(**_arguments(decoders, context, given, cx))
            if inspect.isawaitable(value):
                return _later(value)
            return "ok", to_json(value)
        except ToolRetry as error:
            return "retry", str(error)
        except ToolFailed as error:
            return "failed", str(error)

    return call


def _async_door(
    function: Callable[..., Awaitable[Any]], decoders: dict[str, Decode], context: str | None
) -> Callable[[dict[str, Any], ToolContext], Any]:
    """The same for a coroutine function."""

    async def call(given: dict[str, Any], cx: ToolContext) -> tuple[str, Any]:
        try:
            return "ok", to_json(await function(**_arguments(decoders, context, given, cx)))
        except ToolRetry as error:
            return "retry", str(error)
        except ToolFailed as error:
            return "failed", str(error)

    return call


async def _later(value: Awaitable[Any]) -> tuple[str, Any]:
    """A plain function that returned something to await."""
    try:
        return "ok", to_json(await value)
    except ToolRetry as error:
        return "retry", str(error)
    except ToolFailed as error:
        return "failed", str(error)
