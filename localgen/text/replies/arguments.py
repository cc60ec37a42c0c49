"""Arguments that a format writes as plain text → JSON, by the tool's schema where it says more."""

from __future__ import annotations

import ast
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from localgen.text.replies.results import json_value
from localgen.text.replies.schemas import with_cases

# Python's own parser of literals goes deep in C.
_MAX_LITERAL_CHARS, _MAX_BRACKETS = 20_000, 200


def as_json(text: str, schema: Mapping[str, Any] | None) -> str:
    """Return the JSON text of an argument that a model wrote as ``text``.

    schema: of the argument, None if unknown. A text stays a text where the schema says string, and
    where it is neither JSON nor a Python literal, which templates write for True and None.
    """
    return as_json_of(text, types_of(schema or {}))


def as_json_of(text: str, allowed: Collection[str]) -> str:
    """Return the JSON text of an argument of one of the types ``allowed``, or of any if empty."""
    if "null" in allowed and text.strip() in ("null", "None"):
        return "null"
    types = set(allowed) - {"null"}
    if types and types <= {"string"}:
        return _dumps(text)
    value = _value(text)
    if "string" in types and not isinstance(value, str) and not is_of(value, types):
        value = text
    try:
        return _dumps(value)
    except ValueError:  # a number that no float holds
        return text.strip() if types and "string" not in types else _dumps(text)


def properties_by_tool(tools: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the schemas of each tool's arguments, by its name and theirs, without references."""
    found = {}
    for tool in tools:
        function = tool.get("function", tool)
        if not isinstance(function, Mapping):
            continue
        parameters = function.get("parameters")
        properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
        if isinstance(function.get("name"), str):
            listed = properties if isinstance(properties, Mapping) else {}
            found[function["name"]] = {
                name: with_cases(each, parameters or {}) for name, each in listed.items()
            }
    return found


def types_of(schema: Any) -> set[str]:
    """Return the JSON types that a schema allows; empty if it does not say."""
    if not isinstance(schema, Mapping):
        return set()
    named = schema.get("type")
    types = {named} if isinstance(named, str) else set(named) if isinstance(named, list) else set()
    for name in ("anyOf", "oneOf"):
        for each in schema.get(name) or ():
            types |= types_of(each)
    if not types and ("enum" in schema or "const" in schema):
        types = set(map(_name, schema["enum"] if "enum" in schema else [schema["const"]]))
    return types | {"null"} if schema.get("nullable") is True and types else types


def is_of(value: Any, types: Collection[str]) -> bool:
    """Return whether a JSON value has one of ``types``."""
    name = _name(value)
    return name in types or (name == "integer" and "number" in types)


def _name(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _value(text: str) -> Any:
    try:
        return json_value(text)
    except ValueError:
        pass
    is_small = len(text) <= _MAX_LITERAL_CHARS
    if not is_small or sum(map(text.count, "([{-+~")) > _MAX_BRACKETS:
        return text
    try:
        value = ast.literal_eval(text.strip())
        # Tuples become lists; what JSON lacks is an error.
        return json_value(json.dumps(value, allow_nan=False))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
