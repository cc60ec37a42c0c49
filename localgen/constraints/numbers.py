"""Numbers of a schema that would go on without end: with limits, they have some digits at most.

What satisfies the result satisfies the schema as it was, too.
"""

from __future__ import annotations

import decimal
import functools
import operator
from collections.abc import Mapping
from typing import Any

_LOWER, _UPPER = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
# Within 64 bits, and exact as a floating-point number, which llguidance reads limits as.
_LARGEST = 9 * 10**18
# llguidance takes multiples decimally, so a multiple of it has ten digits after the point at most.
_LAST_DIGIT = 1e-10
INTEGERS = {"int32": (-(2**31), 2**31 - 1), "int64": (-_LARGEST, _LARGEST)}
_LARGEST_EXACT = 2**53
# llguidance multiplies the multipleOf of schemas that are put together, in 32 bits.
_MOST_MULTIPLE = 2**32


def bound_numbers(part: dict[str, Any], *, has_multiples: bool) -> None:
    """Bound the digits of integers, and of numbers with a limit, in one part of a schema.

    Other numbers may need an exponent, which llguidance has only where nothing limits them.
    has_multiples: the schema has a multipleOf somewhere.
    """
    kinds = part.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not isinstance(kinds, list) or "enum" in part or "const" in part:
        return
    limited = any(part.get(limit) is not None for limit in (*_LOWER, *_UPPER))
    if "number" in kinds:
        if not limited:
            return
        if not has_multiples:
            part["multipleOf"] = _LAST_DIGIT
    elif "integer" not in kinds:
        return
    if all(part.get(limit) is None for limit in _LOWER):
        part["minimum"] = -_LARGEST
    if all(part.get(limit) is None for limit in _UPPER):
        part["maximum"] = _LARGEST


def narrow_integers(part: dict[str, Any]) -> None:
    """Say a format of integers by limits."""
    lowest, highest = INTEGERS[part.pop("format")]
    part["minimum"] = max(lowest, part.get("minimum", lowest))
    part["maximum"] = min(highest, part.get("maximum", highest))


def is_exact(value: float) -> bool:
    """Return whether llguidance reads a number as Python does.

    All numbers are floating-point ones there, of the digits as a whole number and a power of ten:
    exact within 15 digits and 22 places.
    """
    if not -_LARGEST_EXACT <= value <= _LARGEST_EXACT:
        return False
    if isinstance(value, int):
        return True
    _, digits, exponent = decimal.Decimal(repr(value)).normalize().as_tuple()
    return len(digits) <= 15 and isinstance(exponent, int) and abs(exponent) <= 22


def multiples_overflow(values: list[float]) -> bool:
    """Return whether numbers that are multiples of all ``values`` are too large to be counted."""
    exponent = max(map(_decimals, values), default=0)
    scaled = {round(value * 10**exponent) for value in values}
    return functools.reduce(operator.mul, scaled, 1) >= _MOST_MULTIPLE


def _decimals(value: float) -> int:
    """The digits after the point of a number that is exact in few of them."""
    return next(digits for digits in range(20) if value * 10**digits % 1 == 0)


def multiple_of(part: Mapping[str, Any]) -> float | None:
    value = part.get("multipleOf")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else None
