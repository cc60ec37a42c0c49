"""Checks that a JSON Schema says nothing that llguidance would not enforce; it compiles nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NoReturn

from localgen._util.suggestions import similar_names
from localgen.constraints.keyword_values import wrong_values
from localgen.constraints.numbers import INTEGERS, is_exact, multiple_of, multiples_overflow

# Keywords of JSON Schema's drafts that no grammar enforces here.
_NOT_ENFORCED = frozenset({
    "not", "if", "then", "else", "uniqueItems", "contains", "minContains", "maxContains",
    "propertyNames", "dependencies", "dependentRequired", "dependentSchemas", "unevaluatedItems",
    "unevaluatedProperties", "additionalItems", "contentSchema", "$dynamicRef", "$dynamicAnchor",
    "$recursiveRef", "$recursiveAnchor",
})  # fmt: skip
FORMATS = frozenset({
    "date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid",
})  # fmt: skip
_ENFORCED = frozenset({
    "additionalProperties", "allOf", "anyOf", "const", "enum", "exclusiveMaximum",
    "exclusiveMinimum", "format", "items", "maxItems", "maxLength", "maxProperties", "maximum",
    "minItems", "minLength", "minProperties", "minimum", "multipleOf", "oneOf", "pattern",
    "patternProperties", "prefixItems", "properties", "required", "type", "$ref",
})  # fmt: skip
# They limit no value. The last five are OpenAPI's: null is not generated where it is "nullable".
ANNOTATIONS = frozenset({
    "$anchor", "$comment", "$defs", "$id", "$schema", "$vocabulary", "contentEncoding",
    "contentMediaType", "default", "definitions", "deprecated", "description", "examples", "id",
    "readOnly", "title", "writeOnly", "discriminator", "example", "externalDocs", "nullable", "xml",
})  # fmt: skip
_LIMITS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
# It would change how the schema is compiled, up to leaving keywords out.
_OPTIONS = "x-guidance"
_ONE = ("additionalProperties", "items", "additionalItems")
_LISTS = ("prefixItems", "anyOf", "oneOf", "allOf", "items")
_MAPPINGS = ("properties", "patternProperties", "$defs", "definitions")
# llguidance reads no deeper ones; neither does Python's json without an end.
_MOST_LEVELS = 100
# Whether references end takes time with their square, and stack along their chains.
_MOST_REFERENCES = 1_000
# JSON writes these characters as escapes, which strings have none of here but for \n and the like.
_CONTROL = {chr(code) for code in range(32)} - set("\b\t\n\f\r")

_EXACT = "use a number within ±2**53 of at most 15 digits"

Where = tuple[str | int, ...]


def plain(schema: Any) -> Any:
    """Return a schema as JSON data of its own. Raises ValueError if it is none."""
    try:
        if isinstance(schema, str):
            return json.loads(schema)
        return json.loads(json.dumps(schema, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"json_schema is not JSON: {reason}") from None


def check_schema(schema: Any) -> None:
    """Raise ValueError for a schema with a part that cannot be enforced, or that no finite text
    satisfies; the message names the keyword and its path."""
    schemas = set()
    for where, part in parts_of(schema):
        schemas.add(id(part))
        if len(where) > _MOST_LEVELS:
            refuse(where[:8], f"is nested deeper than {_MOST_LEVELS} levels; make it flatter")
        if isinstance(part, dict):
            _check_part(part, where)
        elif not isinstance(part, bool):
            refuse(where, f"must be a schema, an object or true or false, got {part!r:.60}")
    _check_references(schema, schemas)
    _check_multiples(schema)
    if not _ends(schema):
        refuse((), "never ends: each object that it allows needs another one; make one optional")


def _check_part(part: dict[str, Any], where: Where) -> None:
    _check_keywords(part, where)
    for keyword, what in wrong_values(part):
        refuse((*where, keyword), what)
    for keyword in _LIMITS & part.keys():
        _check_number(part[keyword], (*where, keyword))
    known = part.get("format")
    if known is not None and known not in FORMATS and known not in INTEGERS:
        names = ", ".join(sorted(FORMATS))
        refuse((*where, "format"), f"{known!r} cannot be enforced; use a pattern, or {names}")
    _check_min_properties(part, where)
    for keyword, values in (("const", [part.get("const")]), ("enum", part.get("enum"))):
        for scalar in _scalars(values):
            if isinstance(scalar, str) and not _CONTROL.isdisjoint(scalar):
                refuse((*where, keyword), "has a control character, which cannot be written")
            if not isinstance(scalar, str) and not is_exact(scalar):
                refuse((*where, keyword), f"{scalar} cannot be enforced; {_EXACT}")


def _check_keywords(part: dict[str, Any], where: Where) -> None:
    for keyword, value in part.items():
        if keyword == "uniqueItems" and value is False:
            continue
        if keyword in _NOT_ENFORCED:
            refuse((*where, keyword), "cannot be enforced; leave it out, and check what comes")
        if keyword == _OPTIONS:
            refuse((*where, keyword), "is not taken; leave it out")
        if keyword == "$id" and where:
            refuse((*where, keyword), "changes what references mean; leave it out")
        if not (keyword in _ENFORCED or keyword in ANNOTATIONS or keyword.startswith("x-")):
            close = similar_names(keyword, _ENFORCED, n=1)
            hint = f"did you mean {close[0]}?" if close else "leave it out"
            refuse((*where, keyword), f"is no keyword that is known, and would be ignored; {hint}")


def _check_references(schema: Any, schemas: set[int]) -> None:
    """Raise ValueError for a reference to what was not checked. schemas: the ids of what was."""
    targets: set[str] = set()
    for where, part in parts_of(schema):
        if not isinstance(part, dict) or "$ref" not in part:
            continue
        targets.add(str(part["$ref"]))
        if len(targets) > _MOST_REFERENCES:
            refuse((*where, "$ref"), f"is one of more than {_MOST_REFERENCES:,}; use fewer $defs")
        found = resolved(part["$ref"], schema)
        if isinstance(found, dict) and id(found) not in schemas:
            refuse((*where, "$ref"), f"points to {part['$ref']!r:.60}, no schema; put it in $defs")


def _check_multiples(schema: Any) -> None:
    parts = [part for _, part in parts_of(schema) if isinstance(part, dict)]
    multiples = [each for part in parts if (each := multiple_of(part)) is not None]
    combined = any(
        "allOf" in part or ("multipleOf" in part and _COMBINED & part.keys()) for part in parts
    )
    if combined and multiples_overflow(multiples):
        refuse((), "combines a multipleOf with others; their common multiples are too large")


def _check_number(value: Any, where: Where) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        refuse(where, f"must be a number, got {value!r:.60}")
    if not is_exact(value):
        refuse(where, f"{value} cannot be enforced; {_EXACT}")
    if where[-1] == "multipleOf" and value <= 0:
        refuse(where, f"must be above 0, got {value}")
    # The floating-point numbers next to 0.07 and 0.01 are no multiples of each other.
    if where[-1] == "multipleOf" and value.as_integer_ratio()[1] > 1024:
        refuse(
            where,
            f"{value} is not exact in binary, so no number read from JSON is its multiple; use an "
            f"integer in a smaller unit",
        )


def _check_min_properties(part: dict[str, Any], where: Where) -> None:
    """Names that a schema does not list may come twice, and count once when the JSON is read."""
    least, required = part.get("minProperties", 0), part.get("required", [])
    is_closed = part.get("additionalProperties") is False and not part.get("patternProperties")
    if not is_closed and least > max(1, len(set(required))):
        refuse(
            (*where, "minProperties"),
            "cannot be enforced beside names that are not listed; list more names as required, or "
            "set additionalProperties to false",
        )


def _scalars(value: Any) -> Iterator[str | float]:
    """Every string and number in JSON data, keys included."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            left += [*each, *each.values()]
        elif isinstance(each, list):
            left += each
        elif isinstance(each, str | int | float):
            yield each


def parts_of(schema: Any) -> Iterator[tuple[Where, Any]]:
    """A schema and all schemas in it, with their paths."""
    left: list[tuple[Where, Any]] = [((), schema)]
    while left:
        where, part = left.pop()
        yield where, part
        if isinstance(part, dict) and len(where) <= _MOST_LEVELS:
            left += _within(where, part)


def _within(where: Where, part: dict[str, Any]) -> Iterator[tuple[Where, Any]]:
    for keyword, value in part.items():
        if keyword in _MAPPINGS and isinstance(value, dict):
            yield from (((*where, keyword, name), each) for name, each in value.items())
        elif keyword in _LISTS and isinstance(value, list):
            yield from (((*where, keyword, index), each) for index, each in enumerate(value))
        elif keyword in _ONE:
            yield (*where, keyword), value


def refuse(where: Where, what: str) -> NoReturn:
    """Raise ValueError with the path of what is refused."""
    raise ValueError(f"json_schema: {path_of(where)} {what}")


def path_of(where: Where) -> str:
    """Return a path as text, such as "$.items.anyOf[1]"."""
    return "$" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in where)


# --- objects without names that nobody listed ---

_OBJECT = frozenset({"properties", "patternProperties", "required", "additionalProperties"})
_COMBINED = frozenset({"allOf", "anyOf", "oneOf", "$ref"})


def close_objects(schema: Any) -> None:
    """Let objects whose properties are listed have no others, unless the schema says so: a model
    that may add names goes on and on. What comes satisfies the schema as it was, too.

    Where objects are put together from several schemas, all of them stay as they are.
    """
    parts = [part for _, part in parts_of(schema) if isinstance(part, dict)]
    if any(
        "allOf" in part or (_COMBINED & part.keys() and _OBJECT & part.keys()) for part in parts
    ):
        return
    for part in parts:
        if "properties" in part and not {"additionalProperties", "patternProperties"} & part.keys():
            part["additionalProperties"] = False


# --- whether a finite text satisfies it ---


def _ends(schema: Any) -> bool:
    """Return whether the schema allows something that does not need itself again without end.

    Schemas are taken to be endless until one pass over them finds an end without endless ones.
    """
    ending: set[int] = set()
    parts = [part for _, part in parts_of(schema) if isinstance(part, dict)]

    def ends(part: Any) -> bool:
        return not isinstance(part, dict) or id(part) in ending

    n_before = -1
    while n_before < len(ending):
        n_before = len(ending)
        ending |= {id(part) for part in parts if _part_ends(part, schema, ends)}
    return ends(schema)


def _part_ends(part: dict[str, Any], root: Any, ends: Any) -> bool:
    if "$ref" in part and not ends(resolved(part["$ref"], root)):
        return False
    if not all(map(ends, part.get("allOf", ()))):
        return False
    for keyword in ("anyOf", "oneOf"):
        if part.get(keyword) and not any(map(ends, part[keyword])):
            return False
    kinds = part.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "const" in part or "enum" in part or kinds is None or set(kinds) - {"object", "array"}:
        return True
    return ("object" in kinds and _object_ends(part, ends)) or (
        "array" in kinds and _array_ends(part, ends)
    )


def _object_ends(part: dict[str, Any], ends: Any) -> bool:
    properties = part.get("properties", {})
    return all(ends(properties.get(name, True)) for name in part.get("required", ()))


def _array_ends(part: dict[str, Any], ends: Any) -> bool:
    least = part.get("minItems", 0)
    first = part.get("prefixItems", [])[:least]
    return all(map(ends, first)) and (least <= len(first) or ends(part.get("items", True)))


def resolved(reference: Any, root: Any) -> Any:
    """Return the schema that a pointer within ``root`` names; True for another reference."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return True
    found = root
    for name in reference.removeprefix("#").split("/")[1:]:
        key = name.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        else:
            found = found.get(key, True) if isinstance(found, dict) else True
    return found if reference == "#" or "/" in reference else True
