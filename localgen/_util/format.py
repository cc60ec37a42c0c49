"""Formats amounts for people."""

from __future__ import annotations

from collections.abc import Sequence

_MOST_NAMED = 3


def as_size(n_bytes: float) -> str:
    """Return a number of bytes in a readable unit: 145 MB, 1.23 GB."""
    for unit, scale, digits in (("GB", 1e9, 2), ("MB", 1e6, 0), ("kB", 1e3, 0)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.{digits}f} {unit}"
    return f"{n_bytes:.0f} B"


def counted(number: int, thing: str) -> str:
    """Return a number with its noun: 1 tensor, 2 tensors."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def some_of(names: Sequence[str], thing: str) -> str:
    """Return how many things there are and the first names: 4 tensors (a, b, c, …)."""
    more = ", …" if len(names) > _MOST_NAMED else ""
    return f"{counted(len(names), thing)} ({', '.join(names[:_MOST_NAMED])}{more})"


def either(choices: Sequence[str]) -> str:
    """Return one or more choices as prose: a, b or c."""
    *first, last = choices
    return f"{', '.join(first)} or {last}" if first else last


def as_count(number: int) -> str:
    """Return a number rounded to three digits: 135M, 7.24B."""
    for unit, scale in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= scale:
            return f"{number / scale:.3g}{unit}"
    return str(number)
