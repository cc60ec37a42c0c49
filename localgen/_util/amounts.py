"""Reads amounts as people write them: sizes and rates."""

from __future__ import annotations

import re

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_NUMBER = r"\s*(\d+(?:\.\d+)?)\s*([KMGTkmgt]?)"
# By convention b is a bit, and B a byte.
_RATE = re.compile(rf"{_NUMBER}(?:(?i:bits?)(?:/s|ps)?|(?P<letter>[bB])(?:/s|ps))\s*")
_BITS_OF_BYTE = 8


def n_bytes_of(name: str, size: int | str) -> int:
    """Return a size in bytes: 2.5GB, 3.5GiB or a number. Raises ValueError, which begins with
    ``name``."""
    match = re.fullmatch(rf"{_NUMBER}(i?)B?\s*", str(size), re.IGNORECASE)
    if match is None or isinstance(size, bool):
        raise ValueError(
            f"{name}={size!r} is not a size. Write 2.5GB, 800MB, 3.5GiB or a number of bytes."
        )
    unit = match[2].upper()
    scale = 2 ** (10 * list(_UNITS).index(unit)) if match[3] else _UNITS[unit]
    n_bytes = int(float(match[1]) * scale)
    if not n_bytes:
        raise ValueError(f"{name} must be greater than 0, got {size!r}")
    return n_bytes


def bits_per_second_of(name: str, rate: str) -> float:
    """Return a rate in bits per second: 1Gbit, 500Mbit/s, 1Gbps, 125MB/s. Raises ValueError, which
    begins with ``name``."""
    match = _RATE.fullmatch(rate)
    if match is None:
        raise ValueError(
            f"{name}={rate!r} is not a rate. Write 1Gbit, 500Mbit/s or 1Gbps, or in bytes 125MB/s."
        )
    found = float(match[1]) * _UNITS[match[2].upper()]
    if match["letter"] == "B":
        found *= _BITS_OF_BYTE
    if not found:
        raise ValueError(f"{name} must be greater than 0, got {rate!r}")
    return found
