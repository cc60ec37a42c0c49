"""Numbers of bytes, for people."""

from __future__ import annotations


def as_size(n_bytes: float) -> str:
    """145 MB, 1.23 GB."""
    for unit, scale, digits in (("GB", 1e9, 2), ("MB", 1e6, 0)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.{digits}f} {unit}"
    return f"{n_bytes / 1e3:.0f} kB"
