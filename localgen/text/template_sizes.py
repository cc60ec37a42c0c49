"""Sizes of the values that a template makes, so that none of them stops the process.

One operation in C on a value, such as comparing, hashing or printing it, cannot be interrupted, and
takes as long as the value is large. A list that holds another one twice is small in memory, and
doubles that time: sizes count an item as often as it is reached.
"""

from __future__ import annotations

import threading
import types
from collections.abc import Iterable
from typing import Any

import jinja2

MAX_OUTPUT_CHARS = 2**24
# What an item of a list costs, in characters.
_ITEM = 16
_MAX_BITS = 2**14
# Python hashes nested tuples by recursion in C, without a limit.
_MAX_DEPTH = 200
_MAX_KNOWN = 2**20
_TEXTS = (str, bytes)
_MAPPINGS = (dict, types.MappingProxyType)
_EMPTY: dict[str, str] = {}
_VIEWS: tuple[type, ...] = tuple(map(type, (_EMPTY.keys(), _EMPTY.values(), _EMPTY.items())))
_CONTAINERS: tuple[type, ...] = (list, tuple, *_MAPPINGS, set, frozenset, *_VIEWS)

Measure = tuple[int, int]


class Sizes:
    """Measures the values of one rendering. limit: the largest size, in characters.

    A container is measured once: templates cannot change one, and it is kept, so that no other gets
    its address.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._known: dict[int, tuple[object, Measure]] = {}
        self._n_items = 0

    def of(self, value: object) -> int:
        """Return a value's size in characters."""
        if self._n_items > _MAX_KNOWN:
            self._known.clear()
            self._n_items = 0
        return self._measure(value)[0]

    def check(self, value: Any) -> Any:
        """Return ``value``. Raises jinja2.TemplateError if it is too large."""
        if value is None or value is True or value is False:
            return value
        if isinstance(value, int) and value.bit_length() > _MAX_BITS:
            raise jinja2.TemplateError(f"a number of more than {_MAX_BITS} bits is too large")
        self.check_size(self.of(value))
        return value

    def check_size(self, size: float) -> None:
        """Raise jinja2.TemplateError if a value of this size would be too large."""
        if size > self.limit:
            raise jinja2.TemplateError(
                f"a value of {size} characters or more is too large; the limit is {self.limit}"
            )

    def _measure(self, value: Any) -> Measure:
        if isinstance(value, _TEXTS):
            return len(value), 0
        if isinstance(value, int):
            return 1 + value.bit_length() // 3, 0
        if not isinstance(value, _CONTAINERS):
            return 1, 0
        known = self._known.get(id(value))
        if known is not None:
            return known[1]
        container: Any = value
        measured = self._measure_items(_items(container))
        self._known[id(value)] = container, measured
        self._n_items += 1 + len(container)
        return measured

    def _measure_items(self, items: Iterable[object]) -> Measure:
        size, depth = _ITEM, 0
        for item in items:
            item_size, item_depth = self._measure(item)
            size += _ITEM + item_size
            depth = max(depth, item_depth)
            if size > 2 * self.limit:
                break  # large enough to be refused
        if depth >= _MAX_DEPTH:
            raise jinja2.TemplateError(f"a value is nested more than {_MAX_DEPTH} levels deep")
        return size, depth + 1


def _items(value: Any) -> Iterable[object]:
    if not isinstance(value, _MAPPINGS):
        return value  # type: ignore[no-any-return]
    return (each for pair in value.items() for each in pair)


class _Current(threading.local):
    sizes: Sizes | None = None


_current = _Current()


def start_sizes(given: object, limit: int = MAX_OUTPUT_CHARS) -> None:
    """Measure this thread's values from now on; what the template was given is not limited."""
    sizes = Sizes(2**62)
    sizes.limit = limit + sizes.of(given)
    _current.sizes = sizes


def current_sizes() -> Sizes:
    """Return this thread's sizes; a template's constants are computed while it is compiled."""
    if _current.sizes is None:
        _current.sizes = Sizes(MAX_OUTPUT_CHARS)
    return _current.sizes
