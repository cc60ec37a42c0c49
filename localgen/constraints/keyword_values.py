"""Checks that the values of a schema's keywords are of the kind that JSON Schema says.

What a value means is not checked here. A value of a wrong kind is an error with its path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
# What other languages call them.
_MEANT = {
    "int": "integer", "float": "number", "double": "number", "str": "string", "text": "string",
    "bool": "boolean", "list": "array", "tuple": "array", "dict": "object", "None": "null",
    "NoneType": "null",
}  # fmt: skip


def wrong_values(part: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the keywords of a schema whose value is of a wrong kind, and what it must be."""
    for keyword, value in part.items():
        kind = _KINDS.get(keyword)
        if kind is not None and not kind[0](value):
            yield keyword, f"must be {kind[1]}, got {value!r:.60}{_hint(keyword, value)}"


def _hint(keyword: str, value: Any) -> str:
    names = value if isinstance(value, list) else [value]
    meant = [_MEANT[name] for name in names if isinstance(name, str) and name in _MEANT]
    return f"; did you mean {meant[0]!r}?" if keyword == "type" and meant else ""


def _is_type(value: Any) -> bool:
    names = value if isinstance(value, list) and value else [value]
    return all(isinstance(name, str) and name in _TYPES for name in names)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_filled_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_Kind = tuple[Callable[[Any], bool], str]
_TEXT: _Kind = (_is_text, "a text")
_OBJECT: _Kind = (_is_object, "an object")
_SCHEMAS: _Kind = (_is_filled_list, "a list of at least one schema")
_SIZE: _Kind = (_is_size, "an integer from 0")
_KINDS: dict[str, _Kind] = {
    "type": (_is_type, f"one of {', '.join(_TYPES)}, or a list of these"),
    "enum": (_is_filled_list, "a list of at least one value"),
    "required": (_are_names, "a list of names"),
    "prefixItems": (_is_list, "a list of schemas"),
    **dict.fromkeys(("pattern", "format", "$ref"), _TEXT),
    **dict.fromkeys(("properties", "patternProperties", "$defs", "definitions"), _OBJECT),
    **dict.fromkeys(("anyOf", "allOf", "oneOf"), _SCHEMAS),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _SIZE),
    **dict.fromkeys(("minProperties", "maxProperties"), _SIZE),
}
