"""How an option of a config class is declared: its default, its check and its flag, once.

A config class is a frozen dataclass whose fields are made by ``option`` and whose
``__post_init__`` calls ``check_fields``. ``localgen.cli.declared_flags`` makes flags of them.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, fields
from enum import Enum
from typing import Any, TypeAlias

from localgen._util.checks import check_choice, check_float, check_int

# Called with (name, value); returns the value to keep, or raises ValueError or TypeError.
Check: TypeAlias = Callable[[str, Any], Any]
FilePath: TypeAlias = str | os.PathLike[str]


class FlagForm(Enum):
    """How the command line writes a value, where its type does not say so."""

    WORDS = "words separated by commas"
    INTEGERS = "integers separated by commas"
    NAMES = "names separated by commas, or a file; repeated"
    PAIRS = "NAME=VALUE; repeated"
    TEXT = "the file of a text"


def option(
    default: Any,
    check: Check,
    *,
    help: str = "",  # noqa: A002
    flag: Any = None,
    names: tuple[str, ...] = (),
    metavar: str | None = None,
    shown: str | None = None,
    is_secret: bool = False,
) -> Any:
    """Declare an option of a config class.

    help: what the command line says of it; an option without it has no flag there. flag: the type
    of the flag, or its ``FlagForm``, where that is not the option's type. names: of the flag, if
    others than the option's. metavar: of its value. shown: its default in words, for None.
    """
    declared = {
        "check": check, "help": help, "flag": flag, "names": names, "metavar": metavar,
        "shown": shown,
    }  # fmt: skip
    return field(default=default, repr=not is_secret, metadata=declared)


def option_of(config: Any, name: str) -> Any:
    """Declare an option as another config class does: with its default, check and flag."""
    (found,) = (each for each in fields(config) if each.name == name)
    return field(default=found.default, repr=found.repr, metadata=found.metadata)


def help_of(config: Any, name: str) -> str:
    """Return what the command line says of a config class's option."""
    (found,) = (each.metadata["help"] for each in fields(config) if each.name == name)
    return str(found)


def integer(low: int, high: int | None = None) -> Check:
    """Return the check for an integer in [low, high]."""
    return lambda name, value: check_int(name, value, low, high)


def number(allowed: str, low: float, high: float) -> Check:
    """Return the check for a number in [low, high]; ``allowed`` is the range in words."""
    return lambda name, value: check_float(name, value, allowed, low, high)


def choice(choices: tuple[str, ...]) -> Check:
    """Return the check for one of ``choices``."""
    return lambda name, value: check_choice(name, value, choices)


def items(check: Check | None = None) -> Check:
    """Return the check for a list, which becomes a tuple; ``check`` is called with that."""

    def checked(name: str, value: Any) -> Any:
        if isinstance(value, str | bytes | os.PathLike) or not isinstance(value, Iterable):
            raise TypeError(f"{name} must be a list, got {value!r:.80}")
        found = tuple(value)
        return found if check is None else check(name, found)

    return checked


def optional(check: Check) -> Check:
    """Return ``check`` that accepts None as well."""
    return lambda name, value: None if value is None else check(name, value)


def hinted(check: Check, hints: Mapping[Any, str]) -> Check:
    """Return ``check`` whose error for one of the values of ``hints`` says what to write."""

    def checked(name: str, value: Any) -> Any:
        try:
            return check(name, value)
        except ValueError as error:
            if isinstance(value, int) and value in hints:
                raise ValueError(f"{error}; {hints[value]}") from None
            raise

    return checked


def as_given(_name: str, value: Any) -> Any:
    """Return ``value``, which is checked where it is read."""
    return value


def check_path(name: str, value: object) -> FilePath:
    """Return ``value``; raise TypeError unless it is a path, as text or as an object."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path, got {value!r:.80}")
    return value


def check_str(name: str, value: object) -> str:
    """Return ``value``; raise TypeError unless it is a text."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text, got {value!r:.80}")
    return value


def check_callable(name: str, value: object) -> object:
    """Return ``value``; raise TypeError unless it can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {value!r:.80}")
    return value


@functools.cache
def _checked_fields(kind: Any) -> tuple[tuple[str, Any, Check], ...]:
    """Return name, default and check of each field of a config class."""
    return tuple((each.name, each.default, each.metadata["check"]) for each in fields(kind))


def check_fields(config: Any) -> None:
    """Replace each field by what its check returns; a default passes as it is."""
    kind: Any = type(config)
    for name, default, check in _checked_fields(kind):
        value = getattr(config, name)
        if value is not default:
            object.__setattr__(config, name, check(name, value))
