"""Amounts as people read them."""

from __future__ import annotations


def as_size(n_bytes: float) -> str:
    """A number of bytes for people: 145 MB, 1.23 GB."""
    for unit, scale, digits in (("GB", 1e9, 2), ("MB", 1e6, 0), ("kB", 1e3, 0)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.{digits}f} {unit}"
    return f"{n_bytes:.0f} B"
