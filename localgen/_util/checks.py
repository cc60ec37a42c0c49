"""Check values that callers pass; every error names the option, the value and what is allowed."""

from __future__ import annotations

import re
from numbers import Integral, Real
from typing import Any

from localgen._util.suggestions import did_you_mean

_NAMES_THE_END = re.compile("between|from|at most|below")


def check_int(name: str, value: object, low: int, high: int | None = None) -> int:
    """Return ``value`` as an int; raise ValueError unless it is an integer in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    number = int(value)
    if number < low or (high is not None and number > high):
        limit = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ValueError(f"{name} must be {limit}, got {number}")
    return number


def check_float(name: str, value: object, allowed: str, low: float, high: float) -> float:
    """Return ``value`` as a float; raise ValueError unless it is a number in [low, high].

    allowed: the range in words, for the message. They may leave out limits that are far away.
    """
    # Compared before it is converted: an int may be too large for a float. NaN is in no range.
    number: Any = value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{name} must be a number {allowed}, got {value!r}")
    if not low <= number <= high:
        words, comma, exceptions = allowed.partition(",")
        if number > high and not _NAMES_THE_END.search(words):
            words = f"of at most {high:g}"
        elif 0 < number < low and not words.startswith("between"):
            words = f"of at least {low:g}"
        allowed = f"{words}{comma}{exceptions}"
        raise ValueError(f"{name} must be a number {allowed}, got {value!r}")
    return float(number)


def check_bool(name: str, value: object) -> bool:
    """Return ``value``; raise ValueError unless it is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return value


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    """Return ``value``; raise ValueError unless it is one of ``choices``."""
    if value not in choices:
        hint = did_you_mean(value, choices, shown=repr) if isinstance(value, str) else ""
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}{hint}")
    return str(value)
