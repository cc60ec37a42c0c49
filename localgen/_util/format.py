"""Amounts as people read them."""

from __future__ import annotations


def as_size(n_bytes: float) -> str:
    """A number of bytes for people: 145 MB, 1.23 GB."""
    for unit, scale, digits in (("GB", 1e9, 2), ("MB", 1e6, 0), ("kB", 1e3, 0)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.{digits}f} {unit}"
    return f"{n_bytes:.0f} B"


def counted(number: int, thing: str) -> str:
    """A number of things, each named ``thing``: 1 tensor, 2 tensors."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def as_count(number: int) -> str:
    """A number of things, in three digits: 135M, 7.24B."""
    for unit, scale in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= scale:
            return f"{number / scale:.3g}{unit}"
    return str(number)
