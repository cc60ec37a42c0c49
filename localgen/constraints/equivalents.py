"""Keywords of a schema that no grammar knows, said in others; the schema allows as much as before.

Classes and OpenAPI write them: names of properties by a schema, formats that limit nothing.
"""

from __future__ import annotations

import copy
from typing import Any

from localgen.constraints.schema_check import ANNOTATIONS, parts_of

# Of strings and of numbers: every value has them.
_NO_LIMITS = frozenset({"password", "binary", "path", "float", "double"})
_OWN_NAMES = frozenset({"properties", "patternProperties"})


def rewrite(schema: Any) -> None:
    """Change a schema in place, which need not be checked yet."""
    for _, part in parts_of(schema):
        if not isinstance(part, dict):
            continue
        if isinstance(part.get("format"), str) and part["format"] in _NO_LIMITS:
            del part["format"]
        if "propertyNames" in part and not _OWN_NAMES & part.keys():
            _list_names(part)


def _list_names(part: dict[str, Any]) -> None:
    """Give an object's values to the names that a list or a pattern allows, and to no others."""
    names, value = part["propertyNames"], part.get("additionalProperties", True)
    if not isinstance(names, dict) or names.get("type", "string") != "string":
        return
    limits = names.keys() - ANNOTATIONS - {"type"}
    if limits == {"enum"} and isinstance(names["enum"], list):
        allowed = [name for name in names["enum"] if isinstance(name, str)]
        part["properties"] = {name: copy.deepcopy(value) for name in allowed}
    elif limits == {"pattern"} and isinstance(names["pattern"], str):
        part["patternProperties"] = {names["pattern"]: value}
    else:
        return
    del part["propertyNames"]
    part["additionalProperties"] = False
