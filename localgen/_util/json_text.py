"""Reads JSON that other programs or people have written."""

from __future__ import annotations

import json
from typing import Any

# Whole numbers beyond this fail in arithmetic with floats, in NumPy and in C.
_MOST = 2**63
_MOST_DIGITS = 20


def read_json(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises ValueError for what is not JSON, what is nested too deeply, and a whole number that 64
    bits do not hold.
    """
    try:
        return json.loads(text, parse_int=_whole_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _whole_number(digits: str) -> int:
    if len(digits) > _MOST_DIGITS or not -_MOST <= (number := int(digits)) < _MOST:
        raise ValueError(f"the number {digits:.20}{'…' * (len(digits) > 20)} is too large")
    return number
