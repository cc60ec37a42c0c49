"""Schemas of arguments seen as cases of one type each, for notations that are not JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

ANNOTATIONS = frozenset({
    "title", "description", "default", "examples", "example", "deprecated", "readOnly",
    "writeOnly", "discriminator", "$comment", "$defs", "definitions", "$schema", "$id",
})  # fmt: skip
_KEYWORDS = {
    "string": {"minLength", "maxLength", "pattern", "format"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "object": {
        "properties", "required", "additionalProperties", "patternProperties", "minProperties",
        "maxProperties",
    },
}  # fmt: skip
_KEYWORDS["integer"] = _KEYWORDS["number"]
_OF_A_TYPE = frozenset().union(*_KEYWORDS.values())
_UNIONS = ("anyOf", "oneOf")
_MOST_LEVELS = 100

Case = dict[str, Any]


def refusal(what: str) -> ValueError:
    """Return the error for a schema that a notation cannot enforce."""
    return ValueError(
        f"{what} cannot be enforced in the format of this model's calls; leave it out, and check "
        f"the arguments that come"
    )


def cases_of(
    schema: Mapping[str, Any],
    root: Mapping[str, Any],
    follow: Callable[[Any], Case] | None = None,
    *,
    level: int = 0,
) -> list[Case]:
    """Return schemas of one type each, or of any, of which a value of ``schema`` satisfies one.

    root: what references are relative to. follow: returns what stands for a schema that is referred
    to; without it, that schema's own cases do. Raises ValueError for schemas put together otherwise
    than by anyOf, oneOf and references.
    """
    if level > _MOST_LEVELS:
        raise refusal("a reference without an end")
    schema = {name: each for name, each in schema.items() if name not in ANNOTATIONS}
    if schema.keys() == {"allOf"} and len(schema["allOf"]) == 1:  # as some write a reference
        return cases_of(schema["allOf"][0], root, follow, level=level + 1)
    if "$ref" in schema and schema.keys() == {"$ref"}:
        target = resolved(schema["$ref"], root)
        return [follow(target)] if follow else cases_of(target, root, level=level + 1)
    for name in ("allOf", "$ref", *_UNIONS):
        if name in schema and len(schema) > 1:
            raise refusal(f"{name!r} beside other keywords")
    for name in _UNIONS:
        if name in schema:
            parts = [{} if each is True else each for each in schema[name]]
            return [
                case for each in parts for case in cases_of(each, root, follow, level=level + 1)
            ]
    return _by_type(schema)


def _by_type(schema: Case) -> list[Case]:
    types = schema.get("type")
    if types is None:
        implied = [kind for kind, names in _KEYWORDS.items() if names & schema.keys()]
        return [{**schema, "type": implied[0]}] if implied else [schema]
    if isinstance(types, str):
        return [schema]
    return [
        {
            name: each
            for name, each in {**schema, "type": kind}.items()
            if name not in _OF_A_TYPE or name in _KEYWORDS.get(kind, ())
        }
        for kind in types
    ]


def is_unlimited(case: Case) -> bool:
    """Return whether a case says no more than a type."""
    return not case.keys() - {"type"}


def with_cases(schema: Any, root: Mapping[str, Any]) -> Any:
    """Return a schema with its references replaced as far as its types can be told from it."""
    if not isinstance(schema, Mapping):
        return schema
    try:
        cases = cases_of(schema, root)
    except (ValueError, TypeError, AttributeError, LookupError):  # whatever a tool's schema holds
        return schema
    return cases[0] if len(cases) == 1 else {"anyOf": cases}


def resolved(reference: Any, root: Mapping[str, Any]) -> Any:
    """Return the schema that a pointer within ``root`` names. Raises ValueError for another one."""
    found: Any = root
    parts = str(reference).split("/")
    for part in parts[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) else None
    if parts[0] != "#" or not isinstance(found, Mapping):
        raise refusal(f"the reference {reference!r}")
    return found
