"""Texts of results as they can be drawn; results may come from files that nobody checked."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

# No font has them, and UTF-8 lacks the last: halves of a character, as in a file's name that is
# not UTF-8.
_NOT_DRAWN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def drawable(found: Any) -> Any:
    """Return a text, or a dataclass, tuple, list or dict with all texts in it, with U+FFFD for what
    cannot be drawn."""
    if isinstance(found, str):
        return _NOT_DRAWN.sub("\N{REPLACEMENT CHARACTER}", found)
    if isinstance(found, tuple | list):
        return type(found)(drawable(each) for each in found)
    if isinstance(found, dict):
        return {drawable(key): drawable(value) for key, value in found.items()}
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        names = [field.name for field in dataclasses.fields(found)]
        return dataclasses.replace(found, **{n: drawable(getattr(found, n)) for n in names})
    return found
