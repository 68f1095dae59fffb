"""Tools from every kind of function: what the model reads, and what the function gets."""

from __future__ import annotations

import asyncio
import datetime
import enum
import functools
import pathlib
import threading
import typing
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Optional, Union

import pytest
import stepwell

if typing.TYPE_CHECKING:
    from typing_extensions import NotRequired, Required, TypedDict
else:
    try:
        from typing import NotRequired, Required, TypedDict
    except ImportError:  # 3.10
        from typing_extensions import NotRequired, Required, TypedDict


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Place:
    """Where something is.

    Attributes:
        city: City and country.
    """

    city: str
    floor: int = 0
    tags: list[str] = field(default_factory=list)


@dataclass
class Tree:
    name: str
    children: list[Tree] = field(default_factory=list)


class Options(TypedDict, total=False):
    limit: Required[int]
    colour: Colour


class Order(TypedDict):
    place: Place
    note: NotRequired[str]


def parameters(function: Any) -> dict[str, Any]:
    return stepwell.tool(function).parameters


def only(function: Any) -> dict[str, Any]:
    """The schema of a function's one parameter."""
    (schema,) = parameters(function)["properties"].values()
    return schema


def said(tool: Any, **arguments: Any) -> Any:
    """What the model would read."""
    tool = tool if isinstance(tool, stepwell.Tool) else stepwell.tool(tool)
    (part,) = tool.call_sync(arguments)
    return part.text if part.type == "text" else part.value


def test_the_signature_the_docstring_and_the_annotations_make_the_schema():
    @stepwell.tool
    def weather(city: str, unit: Literal["C", "F"] = "C", days: int = 1) -> str:
        """Weather of a city.

        It looks into the forecast, nothing else.

        Args:
            city: City and country, for example
                `Oslo, Norway`.
            unit: The scale.

        Returns:
            A sentence.
        """
        return f"{city}: 3 {unit} for {days}"

    assert weather.name == "weather"
    assert weather.description == "Weather of a city.\n\nIt looks into the forecast, nothing else."
    assert weather.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "City and country, for example `Oslo, Norway`."},
            "unit": {"type": "string", "enum": ["C", "F"], "default": "C", "description": "The scale."},
            "days": {"type": "integer", "default": 1},
        },
        "required": ["city"],
        "additionalProperties": False,
    }
    assert weather("Bergen") == "Bergen: 3 C for 1"
    assert said(weather, city="Oslo", days=2) == "Oslo: 3 C for 2"


def test_numpy_and_sphinx_docstrings_are_read_too():
    def numpy(a: int, b: int) -> None:
        """Adds.

        Parameters
        ----------
        a : int
            The first.
        b : int
            The second,
            continued.

        Returns
        -------
        None
        """

    def sphinx(a: int, b: int) -> None:
        """Adds.

        :param a: The first.
        :param int b: The second,
            continued.
        :returns: nothing
        """

    for function in (numpy, sphinx):
        told = stepwell.tool(function)
        assert told.description == "Adds."
        assert told.parameters["properties"]["a"]["description"] == "The first."
        assert told.parameters["properties"]["b"]["description"] == "The second, continued."


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (str, {"type": "string"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (Any, {}),
        (Optional[int], {"type": ["integer", "null"]}),
        (Union[int, str, None], {"type": ["integer", "string", "null"]}),
        (int | None, {"type": ["integer", "null"]}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (Sequence[str], {"type": "array", "items": {"type": "string"}}),
        (set[str], {"type": "array", "items": {"type": "string"}, "uniqueItems": True}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (
            tuple[int, str],
            {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2},
        ),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (Mapping[str, Any], {"type": "object", "additionalProperties": True}),
        (dict, {"type": "object"}),
        (Literal[1, 2], {"type": "integer", "enum": [1, 2]}),
        (Literal["a", 1, None], {"enum": ["a", 1, None]}),
        (Annotated[int, "How many."], {"type": "integer", "description": "How many."}),
        (Annotated[int, "How many.", {"minimum": 1}], {"type": "integer", "description": "How many.", "minimum": 1}),
        (datetime.datetime, {"type": "string", "format": "date-time"}),
        (datetime.date, {"type": "string", "format": "date"}),
        (uuid.UUID, {"type": "string", "format": "uuid"}),
        (pathlib.Path, {"type": "string"}),
        (
            Union[list[int], str],
            {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "string"}]},
        ),
    ],
)
def test_an_annotation_has_its_schema(hint, schema):
    def take(value):
        return None

    take.__annotations__ = {"value": hint}
    assert only(take) == schema


def test_arguments_arrive_as_the_annotated_types():
    got: dict[str, Any] = {}

    def take(
        place: Place,
        colour: Colour,
        order: Order,
        options: Options,
        when: datetime.datetime,
        pair: tuple[int, Colour],
        names: set[str],
        either: Union[Place, str, None],
        number: float,
        which: Literal[Colour.RED],
        file: pathlib.Path = pathlib.Path("a"),
    ) -> None:
        got.update(locals())

    arguments = {
        "place": {"city": "Oslo", "tags": ["x"]},
        "colour": "blue",
        "order": {"place": {"city": "Rome", "floor": 2}},
        "options": {"limit": 3, "colour": "red"},
        "when": "2024-05-01T12:00:00Z",
        "pair": [1, "red"],
        "names": ["a", "b"],
        "either": {"city": "Kyiv"},
        "number": 3,
        "which": "red",
    }
    stepwell.tool(take).call_sync(arguments)
    assert got["place"] == Place("Oslo", 0, ["x"])
    assert got["colour"] is Colour.BLUE
    assert got["order"] == {"place": Place("Rome", 2)}
    assert got["options"] == {"limit": 3, "colour": Colour.RED}
    assert got["when"] == datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.timezone.utc)
    assert got["pair"] == (1, Colour.RED)
    assert got["names"] == {"a", "b"}
    assert got["either"] == Place("Kyiv")
    assert got["number"] == 3.0 and isinstance(got["number"], float)
    assert got["which"] is Colour.RED
    assert got["file"] == pathlib.Path("a")
    arguments["either"] = None
    stepwell.tool(take).call_sync(arguments)
    assert got["either"] is None


def test_named_types_stand_in_definitions_and_may_contain_themselves():
    def plant(tree: Tree, place: Place, options: Options) -> str:
        """Plants."""
        return tree.children[0].children[0].name

    schema = parameters(plant)
    assert schema["properties"]["tree"] == {"$ref": "#/$defs/Tree"}
    assert schema["$defs"]["Tree"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}
    place = schema["$defs"]["Place"]
    assert place["description"] == "Where something is."
    assert place["properties"]["city"]["description"] == "City and country."
    assert place["required"] == ["city"] and place["properties"]["floor"]["default"] == 0
    assert schema["$defs"]["Options"]["required"] == ["limit"]
    assert schema["$defs"]["Colour"] == {"type": "string", "enum": ["red", "blue"]}
    tree = {"name": "a", "children": [{"name": "b", "children": [{"name": "c"}]}]}
    assert said(plant, tree=tree, place={"city": "x"}, options={"limit": 1}) == "c"


def test_types_defined_inside_a_function_are_found():
    @dataclass
    class Local:
        n: int

    def take(value: Local) -> int:
        return value.n

    assert said(take, value={"n": 4}) == 4


def test_arguments_that_do_not_fit_are_told_to_the_model_before_the_call():
    calls = []

    def take(n: int, place: Place) -> None:
        calls.append(n)

    tool = stepwell.tool(take)
    for bad, told in [
        ({"n": "3", "place": {"city": "x"}}, "/n"),
        ({"place": {"city": "x"}}, "n"),
        ({"n": 1, "place": {}}, "city"),
        ({"n": 1, "place": {"city": "x"}, "extra": 1}, "extra"),
        ({"n": True, "place": {"city": "x"}}, "/n"),
    ]:
        with pytest.raises(stepwell.ToolRetry, match=told):
            tool.call_sync(bad)
    assert calls == []


def test_a_value_the_type_itself_refuses_is_a_retry():
    def take(day: datetime.date) -> None:
        return None

    with pytest.raises(stepwell.ToolRetry, match="do not fit"):
        stepwell.tool(take).call_sync({"day": "the first of May"})


def test_a_tool_fails_through_three_doors(run):
    class Broken(Exception):
        pass

    broken = Broken("wires")

    def sync_tool(how: str) -> str:
        if how == "retry":
            raise stepwell.ToolRetry("name the city")
        if how == "failed":
            raise stepwell.ToolFailed("no such station")
        raise broken

    async def async_tool(how: str) -> str:
        await asyncio.sleep(0)
        return sync_tool(how)

    for tool in (stepwell.tool(sync_tool), stepwell.tool(async_tool)):
        for how, expected, told in [
            ("retry", stepwell.ToolRetry, "name the city"),
            ("failed", stepwell.ToolFailed, "no such station"),
            ("fatal", Broken, "wires"),
        ]:
            with pytest.raises(expected, match=told) as failure:
                tool.call_sync({"how": how})
            with pytest.raises(expected, match=told):
                run(tool.call({"how": how}))
        assert failure.value is broken


def test_results_become_words_or_data():
    @dataclass
    class Weather:
        degrees: float
        colour: Colour

    def answer(kind: str) -> Any:
        return {
            "text": "cold",
            "none": None,
            "number": 3,
            "dataclass": Weather(1.5, Colour.RED),
            "list": [Weather(0, Colour.BLUE), {"when": datetime.date(2024, 5, 1)}],
            "document": stepwell.Span(start=0, end=1),
        }[kind]

    assert said(answer, kind="text") == "cold"
    assert said(answer, kind="none") is None
    assert said(answer, kind="number") == 3
    assert said(answer, kind="dataclass") == {"degrees": 1.5, "colour": "red"}
    assert said(answer, kind="list") == [{"degrees": 0, "colour": "blue"}, {"when": "2024-05-01"}]
    assert said(answer, kind="document") == {"start": 0, "end": 1}


def test_a_result_that_is_no_json_is_told_to_the_author():
    def answer() -> Any:
        return object()

    with pytest.raises(stepwell.InvalidInputError, match="returned a `object`"):
        stepwell.tool(answer).call_sync({})


class Station:
    def __init__(self, name: str) -> None:
        self.name_ = name

    def measure(self, depth: int = 0) -> str:
        """Measures here."""
        return f"{self.name_} {depth}"

    @classmethod
    def build(cls, name: str) -> str:
        """Builds one."""
        return cls(name).name_

    @staticmethod
    def count(n: int) -> int:
        """Counts."""
        return n + 1

    def __call__(self, x: int) -> int:
        """Calls it."""
        return x * 2


class AsyncStation:
    """Asks it."""

    async def __call__(self, x: int) -> int:
        await asyncio.sleep(0)
        return x * 3


def test_every_kind_of_callable_is_a_tool():
    def plain(x: int, scale: int = 1) -> int:
        """Plain."""
        return x * scale

    @functools.wraps(plain)
    def wrapped(*args: Any, **kwargs: Any) -> int:
        return plain(*args, **kwargs) + 100

    def returns_awaitable(x: int) -> Any:
        """Later."""

        async def later() -> int:
            return x + 7

        return later()

    station = Station("north")
    assert said(station.measure, depth=3) == "north 3"
    assert stepwell.tool(station.measure).parameters["properties"].keys() == {"depth"}
    assert said(Station.build, name="south") == "south"
    assert said(Station.count, n=1) == 2
    assert said(station, x=4) == 8 and stepwell.tool(station).description == "Calls it."
    assert said(AsyncStation(), x=4) == 12 and stepwell.tool(AsyncStation()).name == "AsyncStation"
    part = functools.partial(plain, scale=10)
    assert said(part, x=2) == 20
    assert stepwell.tool(part).parameters["properties"].keys() == {"x"} and stepwell.tool(part).name == "plain"
    assert said(wrapped, x=2) == 102 and stepwell.tool(wrapped).description == "Plain."
    assert said(stepwell.tool(name="same")(lambda x: x), x=5) == 5
    assert said(returns_awaitable, x=1) == 8


def test_plain_functions_run_off_the_loop_and_coroutines_on_it(run):
    def where() -> str:
        return threading.current_thread().name

    async def where_async() -> str:
        return threading.current_thread().name

    async def main():
        one = await stepwell.tool(where).call({})
        two = await stepwell.tool(where_async).call({})
        return one[0].text, two[0].text

    off, on = run(main())
    assert on == threading.main_thread().name and off != on
    assert said(where_async) == "stepwell-loop"


def test_a_tool_may_ask_for_the_facts_of_its_call():
    def look(x: int, cx: stepwell.ToolContext) -> str:
        assert not cx.is_cancelled
        cx.emit({"done": 0.5})
        return f"{x} {cx.tenant} {cx.attempt} {cx.idempotency_key == f'{cx.run_id}:{cx.call_id}'}"

    assert parameters(look)["properties"].keys() == {"x"}
    assert said(look, x=1) == "1 local 1 True"


def test_names_and_options_are_checked_at_once():
    with pytest.raises(stepwell.InvalidInputError, match="tool name"):
        stepwell.tool(name="has space")(lambda: None)
    with pytest.raises(stepwell.InvalidInputError, match="effect|variant"):
        stepwell.tool(effect="sometimes")(lambda: None)  # type: ignore[call-overload]
    with pytest.raises(stepwell.InvalidInputError, match="timeout"):
        stepwell.tool(name="x", timeout=-1)(lambda: None)

    def every(*args: int) -> None: ...
    def named(**kwargs: int) -> None: ...
    def by_place(x: int, /) -> None: ...
    def opaque(x: threading.Thread) -> None: ...
    def keyed(x: dict[int, str]) -> None: ...
    def unknown(x: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    for function, told in [
        (every, "name every parameter"),
        (named, "name every parameter"),
        (by_place, "positional-only"),
        (opaque, "Thread"),
        (keyed, "keys of a JSON object"),
        (unknown, "Nowhere"),
    ]:
        with pytest.raises(stepwell.InvalidInputError, match=told):
            stepwell.tool(function)
    with pytest.raises(stepwell.InvalidInputError, match="no function"):
        stepwell.tool(Station)


def test_pydantic_models_bring_their_own_schema_and_checks():
    pydantic = pytest.importorskip("pydantic")

    class Inner(pydantic.BaseModel):
        n: int = pydantic.Field(ge=1, description="At least one.")

    class Outer(pydantic.BaseModel):
        """An order."""

        inner: Inner
        many: list[Inner] = []

        @pydantic.field_validator("many")
        @classmethod
        def not_too_many(cls, value: list[Inner]) -> list[Inner]:
            if len(value) > 1:
                raise ValueError("at most one")
            return value

    got = []

    def take(outer: Outer, plain: Annotated[int, pydantic.Field(description="A number.")] = 0) -> Inner:
        got.append(outer)
        return outer.inner

    tool = stepwell.tool(take)
    assert tool.parameters["$defs"]["Inner"]["properties"]["n"]["minimum"] == 1
    assert tool.parameters["properties"]["outer"] == {"$ref": "#/$defs/Outer"}
    assert tool.parameters["properties"]["plain"]["description"] == "A number."
    assert said(take, outer={"inner": {"n": 2}}) == {"n": 2}
    assert got == [Outer(inner=Inner(n=2))]
    with pytest.raises(stepwell.ToolRetry):
        tool.call_sync({"outer": {"inner": {"n": 0}}})
    with pytest.raises(stepwell.ToolRetry, match="at most one"):
        tool.call_sync({"outer": {"inner": {"n": 1}, "many": [{"n": 1}, {"n": 2}]}})


def test_pydantic_is_never_imported_by_the_package(program):
    code = """
import sys, stepwell
@stepwell.tool
def f(x: int) -> int:
    return x
f.call_sync({"x": 1})
print("pydantic" in sys.modules)
"""
    assert program(code).out == "False"
