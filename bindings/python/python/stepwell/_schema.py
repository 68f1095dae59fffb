"""Annotations → JSON Schema, and the way back: JSON arguments → what the annotation promises.

Reads plain annotations by itself (builtins, `Literal`, `Optional`, unions, `Enum`, dataclasses, `TypedDict`,
`NamedTuple`-free tuples, dates, UUIDs, paths, `Annotated[T, "description"]`). A Pydantic model is asked for its
own schema and validates its own values; Pydantic is never imported from here.
"""

from __future__ import annotations

import collections.abc as abc
import enum
import inspect
import sys
import types
import typing
from typing import Any, Literal, Union, get_args, get_origin

from ._errors import InvalidInputError
from ._records import Record

#: Turns a JSON value into the annotated one.
Decode = abc.Callable[[Any], Any]

_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    None: {"type": "null"},
    Any: {},
    object: {},
    dict: {"type": "object"},
    list: {"type": "array"},
    tuple: {"type": "array"},
    set: {"type": "array", "uniqueItems": True},
    frozenset: {"type": "array", "uniqueItems": True},
}
#: Types that travel as text, by module and name: whoever annotates with one has imported it, so this need not.
_AS_TEXT: dict[tuple[str, str], tuple[str | None, abc.Callable[[Any, str], Any]]] = {
    ("datetime", "datetime"): ("date-time", lambda cls, text: cls.fromisoformat(text.replace("Z", "+00:00"))),
    ("datetime", "date"): ("date", lambda cls, text: cls.fromisoformat(text)),
    ("datetime", "time"): ("time", lambda cls, text: cls.fromisoformat(text)),
    ("uuid", "UUID"): ("uuid", lambda cls, text: cls(text)),
    ("pathlib", "Path"): (None, lambda cls, text: cls(text)),
}
_SEQUENCES = {list, abc.Sequence, abc.Iterable, abc.Collection, abc.MutableSequence}
_SETS = {set: set, frozenset: frozenset, abc.Set: set, abc.MutableSet: set}
_MAPPINGS = {dict, abc.Mapping, abc.MutableMapping}
_UNIONS = (Union, types.UnionType)
_REQUIRED = {name: getattr(typing, name, None) for name in ("Required", "NotRequired", "ReadOnly")}


def _same(value: Any) -> Any:
    return value


def _as_text(hint: Any) -> tuple[str | None, abc.Callable[[Any, str], Any]] | None:
    module = getattr(hint, "__module__", None)
    if not isinstance(module, str):
        return None
    # Python 3.13 keeps `Path` in `pathlib._local`.
    return _AS_TEXT.get((module.partition(".")[0], getattr(hint, "__qualname__", "")))


def _is_dataclass(cls: Any) -> bool:
    return isinstance(cls, type) and hasattr(cls, "__dataclass_fields__")


def _fields(cls: Any) -> tuple[Any, ...]:
    """A dataclass's fields; its module is loaded, for the class was made by it."""
    return tuple(sys.modules["dataclasses"].fields(cls))


class Reader:
    """Reads annotations of one schema; shared types go into its `$defs`."""

    def __init__(self, where: str) -> None:
        self._where = where
        self.definitions: dict[str, Any] = {}
        self._names: dict[Any, str] = {}
        self._decoders: dict[Any, Decode] = {}

    def read(self, hint: Any) -> tuple[dict[str, Any], Decode]:
        """The schema of an annotation and its decoder."""
        if hint is inspect.Parameter.empty:
            return {}, _same
        origin, args = get_origin(hint), get_args(hint)
        if origin is typing.Annotated:
            schema, decode = self.read(args[0])
            for extra in args[1:]:
                if isinstance(extra, str):
                    schema = {**schema, "description": extra}
                elif isinstance(extra, dict):
                    schema = {**schema, **extra}
                elif isinstance(getattr(extra, "description", None), str):  # pydantic's Field, doc objects
                    schema = {**schema, "description": extra.description}
            return schema, decode
        if origin is not None and _is_marker(origin):
            return self.read(args[0])
        if type(hint).__name__ == "TypeAliasType":  # `type X = …`
            return self.read(hint.__value__)
        if type(hint).__name__ == "NewType":
            return self.read(hint.__supertype__)
        try:
            if hint in _PLAIN:
                schema = dict(_PLAIN[hint])
                return schema, _PLAIN_DECODERS.get(hint, _same)
            if (as_text := _as_text(hint)) is not None:
                form, make_from = as_text
                schema = {"type": "string", "format": form} if form else {"type": "string"}
                return schema, lambda text: make_from(hint, text)
        except TypeError:
            pass  # not hashable: it is none of them
        if origin is Literal:
            return self._literal(list(args))
        if origin in _UNIONS:
            return self._union(args)
        if origin in _SEQUENCES:
            return self._sequence(args)
        if origin in _SETS:
            schema, decode = self._sequence(args)
            make = _SETS[origin]
            return {**schema, "uniqueItems": True}, lambda items: make(decode(items))
        if origin is tuple:
            return self._tuple(args)
        if origin in _MAPPINGS:
            if args and args[0] is not str:
                raise self._refuse(hint, "the keys of a JSON object are strings")
            schema, decode = self.read(args[1]) if len(args) == 2 else ({}, _same)
            return (
                {"type": "object", "additionalProperties": schema or True},
                lambda items: {key: decode(item) for key, item in items.items()},
            )
        if isinstance(hint, type):
            return self._class(hint)
        if isinstance(hint, typing.TypeVar):
            return self.read(hint.__bound__ or Any)
        raise self._refuse(hint, "annotate it with a JSON-like type, a dataclass, a TypedDict or a Pydantic model")

    def _refuse(self, hint: Any, advice: str) -> InvalidInputError:
        return InvalidInputError(f"{self._where}: no JSON Schema for `{_name(hint)}`; {advice}")

    def _literal(self, values: list[Any]) -> tuple[dict[str, Any], Decode]:
        plain = [value.value if isinstance(value, enum.Enum) else value for value in values]
        back = dict(zip(((type(value), value) for value in plain), values))
        schema: dict[str, Any] = {"enum": plain}
        kinds = {type(value) for value in plain}
        if len(kinds) == 1 and (kind := kinds.pop()) in _PLAIN:
            schema = {**_PLAIN[kind], **schema}
        return schema, lambda value: back.get((type(value), value), value)

    def _union(self, args: tuple[Any, ...]) -> tuple[dict[str, Any], Decode]:
        read = [self.read(arg) for arg in args]
        schemas = [schema for schema, _ in read]
        decoders = [(self._fits(arg), decode) for arg, (_, decode) in zip(args, read)]
        simple = [schema.get("type") for schema in schemas if schema.keys() == {"type"}]
        schema: dict[str, Any]
        if len(simple) == len(schemas) and all(isinstance(kind, str) for kind in simple):
            schema = {"type": simple}
        else:
            schema = {"anyOf": schemas}

        def decode(value: Any) -> Any:
            problem: Exception | None = None
            for fits, convert in decoders:
                if fits(value):
                    try:
                        return convert(value)
                    except (TypeError, ValueError, KeyError) as error:
                        problem = error
            if problem is not None:
                raise problem
            return value

        return schema, decode

    @staticmethod
    def _fits(hint: Any) -> abc.Callable[[Any], bool]:
        """A cheap question whether a JSON value can be meant for this member of a union."""
        origin = get_origin(hint) or hint
        if origin is typing.Annotated:
            return Reader._fits(get_args(hint)[0])
        if origin in (None, type(None)):
            return lambda value: value is None
        if origin is bool:
            return lambda value: isinstance(value, bool)
        if origin is int:
            return lambda value: isinstance(value, int) and not isinstance(value, bool)
        if origin is float:
            return lambda value: isinstance(value, (int, float)) and not isinstance(value, bool)
        if origin is str or _as_text(origin) is not None:
            return lambda value: isinstance(value, str)
        if origin in _SEQUENCES or origin in _SETS or origin is tuple:
            return lambda value: isinstance(value, list)
        if origin is Literal:
            allowed = [arg.value if isinstance(arg, enum.Enum) else arg for arg in get_args(hint)]
            return lambda value: any(value == arg and type(value) is type(arg) for arg in allowed)
        if isinstance(origin, type) and issubclass(origin, enum.Enum):
            members = [member.value for member in origin]
            return lambda value: value in members
        if _is_dataclass(origin):
            fields = {field.name for field in _fields(origin) if field.init}
            return lambda value: isinstance(value, dict) and value.keys() <= fields
        if origin in _MAPPINGS or typing.is_typeddict(origin):
            return lambda value: isinstance(value, dict)
        return lambda value: True

    def _sequence(self, args: tuple[Any, ...]) -> tuple[dict[str, Any], Decode]:
        schema, decode = self.read(args[0]) if args else ({}, _same)
        return {"type": "array", "items": schema}, lambda items: [decode(item) for item in items]

    def _tuple(self, args: tuple[Any, ...]) -> tuple[dict[str, Any], Decode]:
        if len(args) == 2 and args[1] is Ellipsis:
            schema, decode = self._sequence(args[:1])
            return schema, lambda items: tuple(decode(items))
        read = [self.read(arg) for arg in args]
        schema = {
            "type": "array",
            "prefixItems": [schema for schema, _ in read],
            "minItems": len(read),
            "maxItems": len(read),
        }
        return schema, lambda items: tuple(decode(item) for (_, decode), item in zip(read, items))

    def _class(self, cls: type) -> tuple[dict[str, Any], Decode]:
        if hasattr(cls, "model_json_schema") and hasattr(cls, "model_validate"):
            return self._pydantic(cls)
        if issubclass(cls, enum.Enum):
            return self._define(cls, lambda: self._enum(cls))
        if typing.is_typeddict(cls) or hasattr(cls, "__total__"):
            return self._define(cls, lambda: self._typed_dict(cls))
        if _is_dataclass(cls):
            return self._define(cls, lambda: self._dataclass(cls))
        if issubclass(cls, Record):
            make = cls.from_dict
            return {"type": "object"}, make
        raise self._refuse(cls, "make it a dataclass, a TypedDict or a Pydantic model")

    def _define(
        self, cls: type, build: abc.Callable[[], tuple[dict[str, Any], Decode]]
    ) -> tuple[dict[str, Any], Decode]:
        """A named type stands once in `$defs`, so that it may contain itself."""
        name = self._names.get(cls)
        if name is None:
            name = cls.__name__
            while name in self.definitions:
                name += "_"
            self._names[cls] = name
            self.definitions[name] = {}
            self.definitions[name], self._decoders[cls] = build()
        return {"$ref": f"#/$defs/{name}"}, lambda value: self._decoders[cls](value)

    def _enum(self, cls: type[enum.Enum]) -> tuple[dict[str, Any], Decode]:
        schema, _ = self._literal([member.value for member in cls])
        return _described(schema, cls), cls

    def _typed_dict(self, cls: type) -> tuple[dict[str, Any], Decode]:
        hints = hints_of(cls)
        required = set(getattr(cls, "__required_keys__", hints))
        for key, hint in hints.items():  # under postponed annotations Python itself does not see these marks
            mark = _marks(hint)
            if "NotRequired" in mark:
                required.discard(key)
            elif "Required" in mark:
                required.add(key)
        read = {key: self.read(hint) for key, hint in hints.items()}
        schema = _object({key: schema for key, (schema, _) in read.items()}, [key for key in hints if key in required])
        return _described(schema, cls), lambda value: {
            key: read[key][1](item) if key in read else item for key, item in value.items()
        }

    def _dataclass(self, cls: type) -> tuple[dict[str, Any], Decode]:
        hints = hints_of(cls)
        docs = parse_docstring(cls.__doc__)[1]
        properties: dict[str, Any] = {}
        required: list[str] = []
        decoders: dict[str, Decode] = {}
        missing = sys.modules["dataclasses"].MISSING
        for field in _fields(cls):
            if not field.init:
                continue
            schema, decoders[field.name] = self.read(hints.get(field.name, Any))
            told = field.metadata.get("description") or docs.get(field.name)
            if told:
                schema = {**schema, "description": told}
            if field.default is not missing:
                schema = with_default(schema, field.default)
            elif field.default_factory is missing:
                required.append(field.name)
            properties[field.name] = schema

        def decode(value: Any) -> Any:
            return cls(**{key: decoders[key](item) for key, item in value.items()})

        return _described(_object(properties, required), cls), decode

    def _pydantic(self, cls: Any) -> tuple[dict[str, Any], Decode]:
        """Its own schema; `$defs` move up to the root, where their references look for them."""
        schema = cls.model_json_schema()
        self.definitions.update(schema.pop("$defs", {}))
        if "$ref" in schema:  # a model that contains itself
            return schema, cls.model_validate
        self.definitions[cls.__name__] = schema
        return {"$ref": f"#/$defs/{cls.__name__}"}, cls.model_validate


_PLAIN_DECODERS: dict[Any, Decode] = {
    float: float,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
}


def _is_marker(origin: Any) -> bool:
    return getattr(origin, "_name", None) in _REQUIRED


def _marks(hint: Any) -> set[str]:
    marks = set()
    while (name := getattr(get_origin(hint), "_name", None)) in _REQUIRED:
        marks.add(name)
        hint = get_args(hint)[0]
    return marks


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    schema["additionalProperties"] = False
    return schema


def _described(schema: dict[str, Any], cls: type) -> dict[str, Any]:
    text = cls.__doc__ or ""
    # A dataclass without a docstring gets its signature as one; Enum and TypedDict inherit theirs.
    if not text or text.startswith(f"{cls.__name__}(") or cls.__dict__.get("__doc__") is None:
        return schema
    if issubclass(cls, enum.Enum) and text == "An enumeration.":
        return schema
    description = parse_docstring(text)[0]
    return {"description": description, **schema} if description else schema


def with_default(schema: dict[str, Any], default: Any) -> dict[str, Any]:
    """The schema with its default, where that is JSON."""
    if isinstance(default, enum.Enum):
        default = default.value
    if default is None or isinstance(default, (str, int, float, bool)):
        return {**schema, "default": default}
    if isinstance(default, (list, tuple)) and all(isinstance(item, (str, int, float, bool)) for item in default):
        return {**schema, "default": list(default)}
    return schema


def _name(hint: Any) -> str:
    return hint.__qualname__ if isinstance(hint, type) else str(hint)


def hints_of(thing: Any) -> dict[str, Any]:
    """Annotations as types. Those written as text are looked up in the module, then in the frames of the callers:
    a class defined inside a function is seen there only."""
    try:
        return typing.get_type_hints(thing, include_extras=True)
    except NameError as error:
        problem = error
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") != __name__:
            try:
                return typing.get_type_hints(thing, localns=dict(frame.f_locals), include_extras=True)
            except NameError as error:
                problem = error
        frame = frame.f_back  # type: ignore[assignment]  # the outermost frame has none
    raise InvalidInputError(f"`{_name(thing)}`: {problem}; annotations must name types that can be found")


def parse_docstring(text: str | None) -> tuple[str, dict[str, str]]:
    """The description (all before the sections) and what it says of each parameter: Google, NumPy and Sphinx style."""
    if not text:
        return "", {}
    lines = inspect.cleandoc(text).splitlines()
    body: list[str] = []
    parameters: dict[str, str] = {}
    at = 0
    while at < len(lines):
        line = lines[at]
        stripped = line.strip()
        following = lines[at + 1].strip() if at + 1 < len(lines) else ""
        if stripped.startswith((":param ", ":parameter ")):
            head, _, told = stripped[1:].partition(":")
            current = head.split()[-1]
            parameters[current] = told.strip()
            at += 1
            while at < len(lines) and lines[at].startswith((" ", "\t")):
                parameters[current] += " " + lines[at].strip()
                at += 1
            continue
        if stripped.startswith((":return", ":rtype", ":raise", ":type ")):
            at += 1
            continue
        if stripped in ("Args:", "Arguments:", "Parameters:", "Attributes:"):
            at = _google(lines, at + 1, parameters)
            continue
        if stripped in ("Parameters", "Attributes") and following.startswith("---"):
            at = _numpy(lines, at + 2, parameters)
            continue
        is_section = stripped in ("Returns:", "Raises:", "Yields:", "Example:", "Examples:", "Note:", "Notes:")
        if is_section or (stripped in ("Returns", "Raises", "Yields", "Examples", "Notes") and following.startswith("---")):
            break
        body.append(stripped)
        at += 1
    while at < len(lines):  # a parameter section may come after the others
        if lines[at].strip() in ("Args:", "Arguments:", "Parameters:"):
            at = _google(lines, at + 1, parameters)
        else:
            at += 1
    paragraphs = "\n".join(body).strip().split("\n\n")
    description = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return description, {name: told for name, told in parameters.items() if told}


def _google(lines: list[str], at: int, parameters: dict[str, str]) -> int:
    current = ""
    base: int | None = None
    while at < len(lines):
        line = lines[at]
        if line.strip():
            indent = len(line) - len(line.lstrip())
            if indent == 0:
                break
            base = indent if base is None else base
            if indent == base and ":" in line:
                head, _, told = line.strip().partition(":")
                current = head.split("(")[0].strip().lstrip("*")
                parameters[current] = told.strip()
            elif current:
                parameters[current] = (parameters[current] + " " + line.strip()).strip()
        at += 1
    return at


def _numpy(lines: list[str], at: int, parameters: dict[str, str]) -> int:
    current = ""
    while at < len(lines):
        line = lines[at]
        if line.strip():
            if not line.startswith((" ", "\t")):
                if at + 1 < len(lines) and lines[at + 1].strip().startswith("---"):
                    break  # the next section
                current = line.split(":")[0].strip().lstrip("*")
                parameters[current] = ""
            elif current:
                parameters[current] = (parameters[current] + " " + line.strip()).strip()
        at += 1
    return at


def to_json(value: Any) -> Any:
    """What a tool returned, as JSON data."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, enum.Enum):
        return to_json(value.value)
    if isinstance(value, dict):
        return {str(to_json(key)): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_json(item) for item in value]
    if isinstance(value, Record):
        return value.to_dict()
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if _is_dataclass(type(value)):
        return {field.name: to_json(getattr(value, field.name)) for field in _fields(type(value))}
    for cls in type(value).__mro__:
        if _as_text(cls) is not None:
            return value.isoformat() if cls.__module__ == "datetime" else str(value)
    raise InvalidInputError(
        f"a tool returned a `{type(value).__name__}`, which is no JSON; return text, numbers, lists, dicts, "
        "dataclasses or Pydantic models"
    )


def shape_of(shape: Any) -> tuple[dict[str, Any], Decode]:
    """The JSON Schema of a type, and the way from an answer that keeps to it back to the type."""
    reader = Reader("response_format")
    schema, decode = reader.read(shape)
    if schema.keys() == {"$ref"} and schema["$ref"].startswith("#/$defs/"):
        name = schema["$ref"][len("#/$defs/") :]
        if not _refers(reader.definitions, schema["$ref"]):
            schema = reader.definitions.pop(name)
    if reader.definitions:
        schema = {**schema, "$defs": reader.definitions}
    return schema, decode


def schema_of(shape: Any) -> dict[str, Any]:
    """The JSON Schema of a type: what `response_format` takes."""
    return shape_of(shape)[0]


def _refers(value: Any, reference: str) -> bool:
    if isinstance(value, dict):
        return value.get("$ref") == reference or any(_refers(item, reference) for item in value.values())
    if isinstance(value, list):
        return any(_refers(item, reference) for item in value)
    return False
