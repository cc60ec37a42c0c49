"""Checks that a dataclass read from a file has values of the types that its fields name."""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
import typing
from typing import Any


def check_fields(instance: Any) -> None:
    """Raise TypeError for a field, also of a dataclass inside, whose value is of another type.

    An int counts as a float. Of a dict only the keys are checked.
    """
    kind: Any = type(instance)
    for name, hint in _hints(kind).items():
        value = getattr(instance, name)
        if not _is_of(value, hint):
            expected = hint.__name__ if isinstance(hint, type) else str(hint)
            raise TypeError(f"{name} of {kind.__name__} must be {expected}, got {value!r:.40}")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)  # slow: it compiles each annotation


def _is_of(value: Any, hint: Any) -> bool:
    """Return whether a value is of a type; raises TypeError for a field of a dataclass in it."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_is_of(value, each) for each in inner)
    if origin is not None:  # tuple[X, ...] or dict[X, Any]
        return isinstance(value, origin) and all(_is_of(each, inner[0]) for each in value)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, hint):
        check_fields(value)
    return hint is Any or _is_plain(value, hint)


def _is_plain(value: Any, hint: type) -> bool:
    if hint not in (int, float):
        return isinstance(value, hint)
    if isinstance(value, int) and not isinstance(value, bool):
        return hint is int or abs(value) <= sys.float_info.max
    return isinstance(value, hint) and not isinstance(value, bool)
