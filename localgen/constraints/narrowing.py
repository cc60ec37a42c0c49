"""Parts of a checked schema that llguidance takes too widely, or does not understand, written anew.

What satisfies the result satisfies the schema as it was, too.
"""

from __future__ import annotations

import copy
from typing import Any

from localgen.constraints.formats import LENGTHS, PATTERNS
from localgen.constraints.numbers import INTEGERS, narrow_integers
from localgen.constraints.patterns import portable_pattern
from localgen.constraints.schema_check import ANNOTATIONS, Where, parts_of, refuse, resolved


def narrow(schema: Any) -> None:
    """Change a schema in place. Raises ValueError for a pattern that cannot be enforced."""
    for where, part in list(parts_of(schema)):
        if not isinstance(part, dict):
            continue
        if isinstance(part.get("pattern"), str):
            part["pattern"] = _pattern(part["pattern"], (*where, "pattern"))
        if isinstance(part.get("patternProperties"), dict):
            part["patternProperties"] = {
                _pattern(name, (*where, "patternProperties")): below
                for name, below in part["patternProperties"].items()
            }
        part.pop("uniqueItems", None)  # False, or the check would have refused it
        if part.get("format") in PATTERNS:
            _narrow_format(part)
        if part.get("format") in INTEGERS:
            narrow_integers(part)
        if isinstance(part.get("oneOf"), list):
            part["oneOf"] = [_inlined(case, schema) for case in part["oneOf"]]


def _pattern(pattern: str, where: Where) -> str:
    try:
        return portable_pattern(pattern)
    except ValueError as error:
        refuse(where, f"cannot be enforced: {error}")


def _narrow_format(part: dict[str, Any]) -> None:
    name = part.pop("format")
    pattern = PATTERNS[name]
    if name in LENGTHS:
        part["maxLength"] = min(LENGTHS[name], part.get("maxLength", LENGTHS[name]))
    if "pattern" in part:
        part["allOf"] = [*part.get("allOf", []), {"pattern": pattern}]
    else:
        part["pattern"] = pattern


def _inlined(case: Any, root: Any) -> Any:
    """Return the schema that a case of a oneOf refers to: whether cases exclude each other is only
    seen in schemas that are there."""
    seen: set[str] = set()
    while (
        isinstance(case, dict)
        and case.keys() - ANNOTATIONS == {"$ref"}
        and isinstance(case["$ref"], str)
        and case["$ref"] not in seen
    ):
        seen.add(case["$ref"])
        found = resolved(case["$ref"], root)
        if not isinstance(found, dict):
            break
        case = copy.deepcopy(found)
    return case
