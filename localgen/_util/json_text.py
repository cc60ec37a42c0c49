"""Reads JSON that other programs or people have written."""

from __future__ import annotations

import json
from collections.abc import Set
from pathlib import Path
from typing import Any

from localgen._util.text_file import read_text

# Whole numbers beyond this fail in arithmetic with floats, in NumPy and in C.
_MOST = 2**63
_MOST_DIGITS = 20
_MOST_BEFORE_A_BRACE = 64  # a byte-order mark and spaces


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


def has_json(path: Path, keys: Set[str]) -> bool:
    """Return whether a file is a JSON object with these keys; another large file is not read."""
    try:
        with path.open("rb") as file:
            begins = file.read(_MOST_BEFORE_A_BRACE).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{"
        found = read_json(read_text(path)) if begins else None
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and keys <= found.keys()
