"""Limits on widths in templates: jinja's sandbox lets a small template make a huge text.

Widths are checked in methods of texts and numbers, in format strings, and in filters. Operations
that copy their input (``replace``, ``join``, a list as text, indenting many lines) are not checked:
a template can still make many copies of a long text in one operation.
"""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Callable, Iterable
from typing import Any

import jinja2
import jinja2.sandbox

_NUMBER = re.compile(r"\d+")
# The width and the precision after a percent sign, a key and flags.
_PERCENT = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(\d+|\*)?(?:\.(\d+|\*))?")


def check_count(count: float, limit: int) -> None:
    """Raise jinja2.TemplateError if a width, or a sum of widths, exceeds ``limit``."""
    if count > limit:
        raise jinja2.TemplateError(f"a width of {count} is too large; the limit is {limit}")


def check_method(method: object, arguments: Iterable[Any], limit: int) -> None:
    """Check ``text.center(width)``, ``number.to_bytes(length)`` and the like."""
    if not isinstance(method, types.BuiltinMethodType):
        return
    if isinstance(method.__self__, (str, bytes, int)):
        _check_numbers(arguments, limit)


def check_percent(text: str, values: Any, limit: int) -> None:
    """Check the sum of all widths in ``text % values``."""
    found = [each for pair in _PERCENT.findall(text) for each in pair if each]
    check_count(sum(_as_int(each) for each in found if each != "*"), limit)
    if "*" in found:  # a width among the values
        _check_numbers(values if isinstance(values, tuple) else (values,), limit)


def limited_filter(function: Callable[..., Any], limit: int) -> Callable[..., Any]:
    """Return a filter that checks its numeric arguments as widths."""

    @functools.wraps(function)
    def limited(value: Any, *args: Any, **named: Any) -> Any:
        _check_numbers((*args, *named.values()), limit)
        return function(value, *args, **named)

    return limited


class WidthFormatter(jinja2.sandbox.SandboxedFormatter):
    """Checks all widths of a format string, including those among the values; formats nothing."""

    def __init__(self, environment: jinja2.Environment, limit: int) -> None:
        super().__init__(environment)
        self._limit = limit
        self._sum = 0.0

    def format_field(self, value: Any, format_spec: str) -> str:
        """Add up the widths. Raises jinja2.TemplateError.

        The returned text matters only where it is a nested width, which is an int.
        """
        self._sum += sum(map(_as_int, _NUMBER.findall(format_spec)))
        check_count(self._sum, self._limit)
        return str(value) if isinstance(value, int) else ""


def _as_int(digits: str) -> float:
    return int(digits) if len(digits) < 20 else float("inf")


def _check_numbers(values: Iterable[Any], limit: int) -> None:
    for value in values:
        if isinstance(value, int):
            check_count(value, limit)
