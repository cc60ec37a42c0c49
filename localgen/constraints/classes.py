"""Schemas and classes as users give them → JSON Schemas, and JSON texts → objects of them."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from localgen.constraints.schema_check import plain

Parse = Callable[[str], Any]


def schema_of(given: Any) -> tuple[Any, Parse]:
    """Return the JSON Schema that ``given`` means, and what turns a text of it into an object.

    given: a schema as a dict or a JSON string, a pydantic model, a dataclass or a TypedDict; or
    whatever else pydantic has a schema of. Raises ValueError if it has none.
    """
    if isinstance(given, str | Mapping):
        schema = plain(given)
        _refuse_wrapping(schema)
        return schema, json_of
    adapter = _adapter(given)
    try:
        schema = adapter.json_schema()
    except Exception as error:  # pydantic's own errors, and those of the class's methods
        raise ValueError(f"json_schema: {given!r} has no JSON Schema: {error}") from error
    return plain(schema), adapter.validate_json


def _refuse_wrapping(schema: Any) -> None:
    """Raise ValueError for what other programs put around a schema, with the way to it."""
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "json_object":
        raise ValueError(
            "json_schema: this is no schema; pass json_object=True for any JSON object"
        )
    inner = schema.get("json_schema", schema)
    if isinstance(inner, dict) and isinstance(inner.get("schema"), dict):
        path = "['json_schema']['schema']" if inner is not schema else "['schema']"
        raise ValueError(f"json_schema: this wraps a schema, as OpenAI's API does; pass its {path}")
    if schema.get("type") == "function" and isinstance(schema.get("function"), dict):
        raise ValueError(
            "json_schema: this is a tool; pass it in tools= of chat(), or its "
            "['function']['parameters'] for arguments alone"
        )


def _adapter(given: Any) -> Any:
    try:
        pydantic = importlib.import_module("pydantic")
    except ImportError:
        raise ValueError(
            f"json_schema={given!r} needs pydantic: pip install pydantic, or pass the schema as a "
            f"dict"
        ) from None
    try:
        return pydantic.TypeAdapter(given)
    except Exception as error:  # whatever pydantic thinks of an object that it cannot describe
        raise ValueError(
            f"json_schema must be a JSON Schema, a pydantic model, a dataclass or a TypedDict, got "
            f"{given!r}: {error}"
        ) from error


def json_of(text: str) -> Any:
    """Return what a JSON text says. Raises ValueError for a number that Python cannot hold."""
    return json.loads(text, parse_float=_finite)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits:.20} is too large")
    return number
