"""What a template may not do although jinja's sandbox lets it: make a huge text of a small one.

Widths are looked at: in calls of a text's or a number's own methods, in format strings, and in
filters. What copies what it is given (``replace``, ``join``, the text of a list, the indent of many
lines) is not: a template may still make many copies of a long text in one operation.
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
# A width and a precision behind a percent sign, its key and its flags.
_PERCENT = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(\d+|\*)?(?:\.(\d+|\*))?")


def check_count(count: float, limit: int) -> None:
    """Raise jinja2.TemplateError for a width, or a sum of widths, of more than ``limit``."""
    if count > limit:
        raise jinja2.TemplateError(f"a width of {count} is too large; at most {limit} is allowed")


def check_method(method: object, arguments: Iterable[Any], limit: int) -> None:
    """``text.center(width)``, ``number.to_bytes(length)`` and the like."""
    if not isinstance(method, types.BuiltinMethodType):
        return
    if isinstance(method.__self__, (str, bytes, int)):
        _check_numbers(arguments, limit)


def check_percent(text: str, values: Any, limit: int) -> None:
    """``text % values``: all widths together."""
    found = [each for pair in _PERCENT.findall(text) for each in pair if each]
    check_count(sum(_as_int(each) for each in found if each != "*"), limit)
    if "*" in found:  # given among the values
        _check_numbers(values if isinstance(values, tuple) else (values,), limit)


def limited_filter(function: Callable[..., Any], limit: int) -> Callable[..., Any]:
    """A filter whose numbers are widths."""

    @functools.wraps(function)
    def limited(value: Any, *args: Any, **named: Any) -> Any:
        _check_numbers((*args, *named.values()), limit)
        return function(value, *args, **named)

    return limited


class WidthFormatter(jinja2.sandbox.SandboxedFormatter):
    """Formats nothing, but looks at all widths of a format string, those in values included."""

    def __init__(self, environment: jinja2.Environment, limit: int) -> None:
        super().__init__(environment)
        self._limit = limit
        self._sum = 0.0

    def format_field(self, value: Any, format_spec: str) -> str:
        """Raises jinja2.TemplateError for too much. Nothing but a nested width needs the text."""
        self._sum += sum(map(_as_int, _NUMBER.findall(format_spec)))
        check_count(self._sum, self._limit)
        return str(value) if isinstance(value, int) else ""


def _as_int(digits: str) -> float:
    return int(digits) if len(digits) < 20 else float("inf")


def _check_numbers(values: Iterable[Any], limit: int) -> None:
    for value in values:
        if isinstance(value, int):
            check_count(value, limit)
