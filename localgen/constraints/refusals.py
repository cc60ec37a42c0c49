"""What llguidance refuses → which part of a schema, or which character of a pattern, it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from llguidance import LLMatcher

from localgen.constraints.schema_check import parts_of, path_of

# Looking for a part compiles part after part: only in schemas where that takes a moment.
_MOST_PARTS = 200
_MOST_CHARACTERS = 200_000
_DEFINITIONS = ("$defs", "definitions")
# What llguidance calls what only matches at some places.
_PLACES = {
    "WordUnicode": r"\b", "WordUnicodeNegate": r"\B", "Start": "^ in the middle",
    "End": "$ in the middle", "StartLF": "^ with (?m)", "EndLF": "$ with (?m)",
}  # fmt: skip
_PARSE_ERROR = re.compile(r"regex parse error:\n {4}(.*)\n( *)\^+.*\nerror: (.*)")
_PLACE = re.compile(r"lookarounds not supported yet; (\w+)")


def schema_refusal(name: str, text: str, message: str) -> str:
    """Return why a schema is refused, with the path of the smallest part that is.

    text: the schema that was compiled. message: llguidance's, of the whole.
    """
    found = _smallest_refused(text)
    if found is None:
        return f"{name} cannot be enforced: {reason(message)}"
    where, own_message = found
    return f"{name}: {where} cannot be enforced: {reason(own_message)}"


def refusal_of_schema(name: str, text: str) -> str | None:
    """Return why llguidance refuses a schema, with a path; None if it does not."""
    message = _refused(text)
    return schema_refusal(name, text, message) if message else None


def _smallest_refused(text: str) -> tuple[str, str] | None:
    """Return the path of the deepest part that is refused by itself, and the reason."""
    if len(text) > _MOST_CHARACTERS:
        return None
    root = json.loads(text)
    parts = sorted(parts_of(root), key=lambda each: len(each[0]), reverse=True)
    if len(parts) > _MOST_PARTS:
        return None
    shared = {name: root[name] for name in _DEFINITIONS if name in root}
    for where, part in parts:
        if not isinstance(part, dict) or not all(map(_is_shared, _references(part))):
            continue
        if message := _refused(json.dumps({**part, **shared})):
            return path_of(where), message
    return None


def _references(part: dict[str, Any]) -> Iterator[Any]:
    return (each["$ref"] for _, each in parts_of(part) if isinstance(each, dict) and "$ref" in each)


def _is_shared(reference: Any) -> bool:
    """Return whether a reference means the same in each part that has the root's definitions."""
    return str(reference).startswith(tuple(f"#/{name}/" for name in _DEFINITIONS))


def _refused(text: str) -> str:
    """Return llguidance's error for a schema; "" if it has none."""
    try:
        return LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(text))
    except ValueError as error:
        return str(error)


def regex_refusal(pattern: str, message: str) -> str:
    """Return why a pattern is refused, with the character where it is."""
    found = _PARSE_ERROR.search(message)
    if found is None:
        return f"regex cannot be enforced: {reason(message)}"
    at = _position(pattern, len(found[2]) - 4)
    return f"regex cannot be enforced: {found[3]}, at character {at + 1}, {pattern[at:]!r:.40}"


def _position(pattern: str, column: int) -> int:
    """Return the index in a pattern of a column of what llguidance reads, in which slashes and line
    feeds are escaped."""
    index = width = 0
    while index < len(pattern) and width < column:
        is_pair = pattern[index] == "\\" and index + 1 < len(pattern)
        width += 2 if is_pair or pattern[index] in "/\n\r" else 1
        index += 2 if is_pair else 1
    return min(index, len(pattern) - 1)


def reason(message: str) -> str:
    """Return the reason in an error of llguidance, without the grammar, backtraces and its own
    names."""
    if "coerce_one_of" in message:
        return "the schemas of a oneOf may both hold; use anyOf, or schemas that exclude each other"
    if "too big" in message:
        return "it is too large to compile; use fewer properties, values or repetitions"
    if found := _PARSE_ERROR.search(message):
        return f"{found[3]} in {found[1]!r:.60}"
    if found := _PLACE.search(message):
        return f"{_PLACES.get(found[1], found[1])} is not supported"
    message = re.sub(r"Regex is empty: .*", "no text matches it", message, flags=re.DOTALL)
    message = message.replace("Unsatisfiable schema: ", "no value satisfies it: ")
    message = message.partition("\n<")[0].partition("\n   1 | ")[0]
    message = re.sub(r"\s+", " ", message).strip()
    return message if len(message) <= 300 else f"{message[:300]}…"
