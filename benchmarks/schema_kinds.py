"""Schemas of the kinds that people constrain texts with, drawn at random; it compiles nothing.

The same number gives the same schemas: 20 of each of ten kinds, whose functions are listed at the
end.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import random
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pydantic
from typing_extensions import TypedDict

Schema = dict[str, Any]
Draw = random.Random

PER_KIND = 20
_NAMES = (
    "name", "title", "city", "email", "age", "price", "items", "status", "created_at", "tags",
    "address", "is_active", "quantity", "description", "currency", "user_id", "notes", "score",
    "first name", "größe", "x-trace", "$id", "a/b", "naïve 🙂", "query", "unit", "max_results",
)  # fmt: skip
_WORDS = (
    "low",
    "medium",
    "high",
    "red",
    "green",
    "USD",
    "EUR",
    "n/a",
    "日本",
    'a "b"',
    "a\\b",
    "é",
)
_FORMATS = (
    "date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid",
)  # fmt: skip
_PATTERNS = (
    r"^[A-Z]{2}-\d{4}$", r"^\+?[0-9 ]{7,15}$", r"^#[0-9a-fA-F]{6}$", r"^\w+(\.\w+)*$",
    r"^(yes|no)$", r"[aeiou]{2}", r"^[^\s@]+@[^\s@]+\.[a-z]{2,3}$", r"^v\d+\.\d+\.\d+(-rc\d)?$",
    r"^\S{1,12}$", r"^[A-Z][a-z]*( [A-Z][a-z]*){0,2}$", r"^.{3,8}$", r"^\D*$",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Sample:
    """One schema: what a user passes as ``json_schema``, and its kind."""

    kind: str
    number: int
    given: Any


def samples(per_kind: int = PER_KIND) -> list[Sample]:
    """Return ``per_kind`` schemas of each kind, each drawn by itself."""
    return [
        Sample(kind, number, make(random.Random(f"{kind} {number}"), number))
        for kind, make in KINDS.items()
        for number in range(per_kind)
    ]


# --- parts ---


def _names(draw: Draw, most: int) -> list[str]:
    return draw.sample(_NAMES, draw.randint(1, most))


def _object(draw: Draw, properties: Schema, *, named: bool = True) -> Schema:
    """An object of these properties, of which some are required; mostly closed."""
    made: Schema = {"type": "object", "properties": properties}
    made["required"] = [name for name in properties if draw.random() < 0.7]
    if draw.random() < 0.6:
        made["additionalProperties"] = False
    if named and draw.random() < 0.3:
        made |= {"title": "Thing", "description": "What the model should say."}
    return made


def _text(draw: Draw, _number: int = 0) -> Schema:
    made: Schema = {"type": "string"}
    choice = draw.randrange(4)
    if choice == 0:
        made["pattern"] = draw.choice(_PATTERNS)
    elif choice == 1:
        made["format"] = draw.choice(_FORMATS)
    elif choice == 2:
        made["minLength"] = draw.randint(0, 5)
        made["maxLength"] = made["minLength"] + draw.randint(0, 20)
    return made


def _quantity(draw: Draw, _number: int = 0) -> Schema:
    made: Schema = {"type": draw.choice(["integer", "number"])}
    low, high = sorted(draw.sample(range(-1_000, 1_000), 2))
    if draw.random() < 0.5:
        made[draw.choice(["minimum", "exclusiveMinimum"])] = low
    if draw.random() < 0.5:
        made[draw.choice(["maximum", "exclusiveMaximum"])] = high + 2
    if draw.random() < 0.2:
        made["multipleOf"] = draw.choice([1, 5, 0.25, 12])
    return made


def _enum(draw: Draw, _number: int = 0) -> Schema:
    values: list[Any] = [*_WORDS, 0, -1, 2.5, True, None, [], {"a": 1}]
    if draw.random() < 0.2:
        return {"const": draw.choice(values)}
    if draw.random() < 0.5:
        return {"type": "string", "enum": draw.sample(_WORDS, draw.randint(1, 6))}
    return {"enum": draw.sample(values, draw.randint(1, 8))}


def _simple(draw: Draw) -> Schema:
    makers: list[Callable[[Draw], Schema]] = [_text, _quantity, _enum, _boolean]
    made = draw.choice(makers)(draw)
    return _nullable(draw, made) if draw.random() < 0.2 else made


def _boolean(_draw: Draw) -> Schema:
    return {"type": "boolean"}


def _nullable(draw: Draw, made: Schema) -> Schema:
    if isinstance(made.get("type"), str) and "enum" not in made and draw.random() < 0.5:
        return {**made, "type": [made["type"], "null"]}
    return {"anyOf": [made, {"type": "null"}], "default": None}


def _nested(draw: Draw, levels: int) -> Schema:
    if levels == 0:
        return _simple(draw)
    properties = {name: _nested(draw, draw.randrange(levels)) for name in _names(draw, 4)}
    return _object(draw, properties)


# --- kinds ---


def _function_calls(draw: Draw, number: int) -> Any:
    """A call of one of some tools, as chat interfaces describe them."""

    def call(name: str) -> Schema:
        arguments = _object(draw, {each: _simple(draw) for each in _names(draw, 4)})
        return {
            "type": "object",
            "properties": {"name": {"const": name}, "arguments": arguments},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }

    calls = [call(name) for name in ("get_weather", "search", "send-mail")[: 1 + number % 3]]
    if len(calls) == 1:
        return calls[0]
    one = {draw.choice(["anyOf", "oneOf"]): calls}
    return one if number % 2 else {"type": "array", "items": one, "minItems": 1, "maxItems": 3}


def _nested_objects(draw: Draw, number: int) -> Any:
    return _object(draw, {name: _nested(draw, 1 + number % 4) for name in _names(draw, 5)})


def _enums(draw: Draw, number: int) -> Any:
    if number % 4 == 0:
        return _enum(draw)
    return _object(draw, {name: _enum(draw) for name in _names(draw, 6)})


def _records(draw: Draw, number: int) -> Any:
    least = draw.randrange(3)
    record = _object(draw, {name: _simple(draw) for name in _names(draw, 5)})
    rows: Schema = {"type": "array", "items": record, "minItems": least}
    if number % 3:
        rows["maxItems"] = least + draw.randrange(4)
    return rows if number % 2 else _object(draw, {"rows": rows, "total": _quantity(draw)})


def _recursion(draw: Draw, number: int) -> Any:
    value = _simple(draw)
    node = _object(draw, {"value": value, "children": {"type": "array", "items": {"$ref": "#"}}})
    chain = {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": value,
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
                "required": ["value", "next"],
            }
        },
    }
    expression = {
        "anyOf": [_quantity(draw), {"$ref": "#/$defs/operation"}],
        "$defs": {
            "operation": {
                "type": "object",
                "properties": {
                    "op": {"enum": ["+", "-", "*", "/"]},
                    "left": {"$ref": "#"},
                    "right": {"$ref": "#"},
                },
                "required": ["op", "left", "right"],
                "additionalProperties": False,
            }
        },
    }
    mutual = {
        "$ref": "#/$defs/folder",
        "$defs": {
            "folder": _object(
                draw, {"files": {"type": "array", "items": {"$ref": "#/$defs/entry"}}}
            ),
            "entry": {"anyOf": [{"$ref": "#/$defs/folder"}, value]},
        },
    }
    return (node, chain, expression, mutual)[number % 4]


def _formats(draw: Draw, number: int) -> Any:
    if number < len(_FORMATS):
        return {"type": "string", "format": _FORMATS[number]}
    names = draw.sample(_NAMES, 4)
    return _object(draw, {each: {"type": "string", "format": draw.choice(_FORMATS)}
                          for each in names})  # fmt: skip


def _values(draw: Draw, number: int) -> Any:
    """Numbers with limits, and strings with lengths and patterns."""
    if number < len(_PATTERNS):
        return {"type": "string", "pattern": _PATTERNS[number]}
    if number % 2:
        return {"type": "string", "pattern": draw.choice(_PATTERNS), "maxLength": 12}
    return _quantity(draw)


def _unions(draw: Draw, number: int) -> Any:
    """Alternatives with a tag, without one, and objects put together."""

    def tagged(tag: str) -> Schema:
        properties = {"kind": {"const": tag}} | {each: _simple(draw) for each in _names(draw, 3)}
        return {**_object(draw, properties), "required": ["kind"], "additionalProperties": False}

    if number % 4 == 0:
        cases = {name: tagged(name) for name in ("cat", "dog", "bird")}
        return {
            "oneOf": [{"$ref": f"#/$defs/{name}"} for name in cases],
            "discriminator": {"propertyName": "kind"},
            "$defs": cases,
        }
    if number % 4 == 1:
        return {"anyOf": [_simple(draw), _nested(draw, 2), {"type": "array", "items": _text(draw)}]}
    if number % 4 == 2:
        return _object(draw, {name: _nullable(draw, _simple(draw)) for name in _names(draw, 5)})
    first, second = ({name: _simple(draw)} for name in draw.sample(_NAMES, 2))
    return {
        "allOf": [
            {"type": "object", "properties": first, "required": list(first)},
            {"type": "object", "properties": second, "required": list(second)},
        ]
    }


def _maps(draw: Draw, number: int) -> Any:
    """Objects with names of the model's own, and tuples."""
    choice = number % 4
    if choice == 0:
        return {"type": "object", "additionalProperties": _simple(draw), "maxProperties": 3}
    if choice == 1:
        return {
            "type": "object",
            "patternProperties": {r"^[a-z_]{1,8}$": _simple(draw), r"^\d{2}$": _quantity(draw)},
            "additionalProperties": False,
            "minProperties": draw.randrange(2),
        }
    if choice == 2:
        parts = [_simple(draw) for _ in range(draw.randint(1, 4))]
        return {"type": "array", "prefixItems": parts, "items": False, "minItems": len(parts)}
    return {
        "type": "object",
        "properties": {name: _simple(draw) for name in _names(draw, 3)},
        "additionalProperties": draw.choice([True, _quantity(draw)]),
    }


# --- classes ---


class _Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class _Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class _Point(pydantic.BaseModel):
    x: float
    y: float = pydantic.Field(ge=-90, le=90)


class _Tree(pydantic.BaseModel):
    label: str = pydantic.Field(max_length=10)
    children: list[_Tree] = []


class _Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int = pydantic.Field(ge=1, le=9)


class _Dog(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    kind: Literal["dog"]
    tricks: list[str] = pydantic.Field(max_length=3)


@dataclasses.dataclass
class _Address:
    street: str
    zip_code: Annotated[str, pydantic.Field(pattern=r"^\d{5}$")]
    country: Literal["de", "fr"] = "de"


class _Movie(TypedDict, total=False):
    title: str
    year: Annotated[int, pydantic.Field(ge=1888, le=2030)]


_TYPES: tuple[Any, ...] = (
    int, bool, Annotated[str, pydantic.Field(max_length=12)], float, _Color, _Size, _Point, _Tree,
    int | None, int | _Color | None, list[_Point], dict[str, int], tuple[int, _Color],
    Annotated[_Cat | _Dog, pydantic.Field(discriminator="kind")], _Address, _Movie,
    datetime.date, datetime.datetime, datetime.time, uuid.UUID, Literal["a", 1, None],
    Annotated[list[str], pydantic.Field(min_length=1, max_length=2)], list[list[int]],
    Annotated[int, pydantic.Field(gt=0, multiple_of=5)], Any, pydantic.AnyUrl,
    pydantic.IPvAnyAddress, datetime.timedelta, Annotated[str, pydantic.Field(pattern="^[a-f]+$")],
)  # fmt: skip


def _classes(draw: Draw, number: int) -> Any:
    """Pydantic models, dataclasses and TypedDicts with fields of many types."""
    types = draw.sample(_TYPES, 4)
    fields = {f"field_{index}": kind for index, kind in enumerate(types)}
    if number % 4 == 1:
        return dataclasses.make_dataclass(f"Data{number}", list(fields.items()))
    if number % 4 == 3:
        return TypedDict(f"Typed{number}", fields)  # type: ignore[operator]
    defaults: dict[str, Any] = {name: (kind, ...) for name, kind in fields.items()}
    return pydantic.create_model(f"Model{number}", **defaults)


KINDS: dict[str, Callable[[Draw, int], Any]] = {
    "function calls": _function_calls,
    "nested objects": _nested_objects,
    "enums": _enums,
    "arrays of records": _records,
    "recursion": _recursion,
    "formats": _formats,
    "numbers and strings": _values,
    "unions": _unions,
    "maps and tuples": _maps,
    "classes": _classes,
}
