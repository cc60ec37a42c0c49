"""Limits on operations in templates: jinja's sandbox lets a small template take hours or gigabytes.

Each value that a template makes is measured (``template_sizes``). Here the operations are checked
whose result or time is not in proportion to their values: widths, texts that are repeated, and
searches that compare each character with each.
"""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Any

import jinja2
import jinja2.sandbox

from localgen.text.template_sizes import MAX_OUTPUT_CHARS, current_sizes

# Characters that one operation may compare: under a second.
_MAX_STEPS = 2**28
# What regular expressions may read, as some take the square of a text's length.
_MAX_PATTERN_CHARS = 2**14
_MAX_DIGITS = 1000

_NUMBER = re.compile(r"\d+")
# The width and the precision after a percent sign, a key and flags.
_PERCENT = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(\d+|\*)?(?:\.(\d+|\*))?")

_WIDTH_FILTERS = frozenset({"batch", "center", "indent", "tojson"})
# Filters whose text arguments are repeated for each part of the value, or compared with it.
_REPEATING_FILTERS = frozenset({"indent", "tojson", "trim", "urlize", "wordwrap"})
_PATTERN_FILTERS = frozenset({"urlize", "wordwrap"})
# Methods of texts that read each character a constant number of times.
_LINEAR_METHODS = frozenset({
    "count", "endswith", "find", "index", "partition", "removeprefix", "removesuffix", "split",
    "startswith",
})  # fmt: skip


def check_count(count: float, limit: int) -> None:
    """Raise jinja2.TemplateError if a width, or a sum of widths, exceeds ``limit``."""
    if count > limit:
        raise jinja2.TemplateError(f"a width of {count} is too large; the limit is {limit}")


def check_call(
    function: object, args: tuple[Any, ...], named: Mapping[str, Any]
) -> tuple[Any, ...]:
    """Check ``text.center(width)``, ``number.to_bytes(length)`` and the like; return ``args``.

    An iterator to join becomes a list.
    """
    sizes = current_sizes()
    sizes.check_size(sum(map(sizes.of, (*args, *named.values()))))  # a macro's varargs
    if not isinstance(function, (types.BuiltinMethodType, types.MethodType)):
        return args
    owner, name = function.__self__, function.__name__
    if isinstance(owner, Set):
        raise jinja2.TemplateError(f"a template cannot use the method {name} of a set")
    if isinstance(owner, (str, bytes, int)):
        _check_numbers((*args, *named.values()), MAX_OUTPUT_CHARS)
    if isinstance(owner, (str, bytes)):
        return _check_text_method(owner, name, args, named)
    return args


def _check_text_method(
    text: Any, name: str, args: tuple[Any, ...], named: Mapping[str, Any]
) -> tuple[Any, ...]:
    sizes = current_sizes()
    if name == "join" and len(args) == 1:
        args = (_as_list(args[0]),)
        _check_join(text, args[0])
    elif name == "replace" and len(args) >= 2:
        _check_replace(text, *args[:2])
    elif name == "expandtabs":
        widths = [each for each in (*args, *named.values()) if isinstance(each, int)]
        sizes.check_size(len(text) + text.count("\t") * sum(widths, 8))
    elif name == "translate":
        sizes.check_size(len(text) * sum(map(sizes.of, args)))
    elif name not in _LINEAR_METHODS:
        _check_steps(len(text) * _text_length((*args, *named.values())))
    return args


def _as_list(values: Any) -> Any:
    """Return what is to be joined, so that it can be measured."""
    return list(values) if isinstance(values, Iterator) else values


def _check_join(separator: Any, values: Any) -> None:
    sizes = current_sizes()
    n_values = len(values) if hasattr(values, "__len__") else 0
    sizes.check_size(sizes.of(values) + n_values * len(separator))


def _check_replace(text: Any, old: Any, new: Any) -> None:
    if isinstance(old, (str, bytes)) and isinstance(new, (str, bytes)):
        current_sizes().check_size(text.count(old) * len(new))


def _check_steps(count: int) -> None:
    if count > _MAX_STEPS:
        raise jinja2.TemplateError(f"an operation of {count} steps on a text is too large")


def _text_length(values: Iterable[Any]) -> int:
    """Return the length of all texts among ``values`` and in tuples of them."""
    total = 0
    for value in values:
        if isinstance(value, (str, bytes)):
            total += len(value)
        elif isinstance(value, (list, tuple)):
            total += _text_length(value)
    return total


def check_percent(text: Any, values: Any) -> None:
    """Check the sum of all widths in ``text % values``, and values that it repeats."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    found = [each for pair in _PERCENT.findall(text) for each in pair if each]
    check_count(sum(_as_int(each) for each in found if each != "*"), MAX_OUTPUT_CHARS)
    if "*" in found:  # a width among the values
        _check_numbers(values if isinstance(values, tuple) else (values,), MAX_OUTPUT_CHARS)
    if isinstance(values, Mapping):  # "%(name)s" may repeat; without a name, each is used once
        sizes = current_sizes()
        sizes.check_size(text.count("%") * sizes.of(values))


def limited_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the filter ``name`` with its limits; it returns no huge value."""
    # jinja passes the environment, the context or its settings before the value.
    n_before = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def limited(*args: Any, **named: Any) -> Any:
        before, (value, *others) = args[:n_before], args[n_before:]
        if name == "join":
            value = _as_list(value)
        _check_filter(name, value, others, named)
        return _measured(function(*before, value, *others, **named))

    return limited


def _measured(value: Any) -> Any:
    sizes = current_sizes()
    if isinstance(value, Iterator):
        return map(sizes.check, value)
    return sizes.check(value)


def _check_filter(name: str, value: Any, args: list[Any], named: Mapping[str, Any]) -> None:
    given = (*args, *named.values())
    sizes = current_sizes()
    if name == "join":
        _check_join(str(args[0] if args else named.get("d", "")), value)
    elif name == "replace":
        parts = [*args, *(named[each] for each in ("old", "new") if each in named)]
        if len(parts) >= 2:
            _check_replace(str(value), str(parts[0]), str(parts[1]))
    elif name == "round":
        for each in given:
            if isinstance(each, int) and abs(each) > _MAX_DIGITS:
                raise jinja2.TemplateError(f"a precision of {each} is too large")
    if name in _WIDTH_FILTERS:
        _check_numbers(given, MAX_OUTPUT_CHARS)
    if name in _PATTERN_FILTERS and len(str(value)) > _MAX_PATTERN_CHARS:
        raise jinja2.TemplateError(
            f"a text of {len(str(value))} characters is too large for {name}"
        )
    if name in _REPEATING_FILTERS:
        widths = sum(each for each in given if isinstance(each, int) and each > 0)
        _check_steps(sizes.of(value) * (_text_length(given) + widths))


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
