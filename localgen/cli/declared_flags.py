"""Flags made from config classes, which declare each of their options once.

``localgen._util.option_fields`` has how they do.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args, get_type_hints

import typer

from localgen._util.option_fields import FlagForm
from localgen.cli.files import read_file
from localgen.cli.flag_names import flag_of
from localgen.cli.option_groups import OptionGroup


class DeclaredOptions(OptionGroup):
    """The options of a config class as they were typed; a subclass names that class, with ``of``.

    Its signature has a parameter for each, which typer reads.
    """

    __signature__: ClassVar[inspect.Signature]
    _fields: ClassVar[dict[str, Field[Any]]]

    def __init_subclass__(cls, *, of: Any) -> None:
        types = get_type_hints(of)
        cls._fields = {each.name: each for each in fields(of) if each.metadata["help"]}
        cls.__signature__ = inspect.Signature(
            [_parameter(each, types[each.name]) for each in cls._fields.values()]
        )

    def __init__(self, **typed: Any) -> None:
        self._typed = typed

    def given(self) -> dict[str, Any]:
        """Return the options that have a value, as the config class takes them.

        Raises ValueError for text that is no such value, and for a file that cannot be read.
        """
        return {
            name: _value(self._fields[name], typed)
            for name, typed in self._typed.items()
            if typed is not None
        }


def _parameter(option: Field[Any], annotation: Any) -> inspect.Parameter:
    """Return an option as the parameter that typer reads."""
    declared = option.metadata
    kind, default = _typed_as(declared["flag"], annotation, option.default)
    told = typer.Option(
        *_names(option),
        help=declared["help"],
        metavar=declared["metavar"],
        show_default=declared["shown"] or True,
    )
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, told],
    )


def _names(option: Field[Any]) -> tuple[str, ...]:
    flag = flag_of(option.name)
    if option.default is True:
        return (f"{flag}/--no-{flag[2:]}",)
    return option.metadata["names"] or (flag,)


def _typed_as(form: Any, annotation: Any, default: Any) -> tuple[Any, Any]:
    """Return the type of a flag and its default, as typed; None for one that has no value."""
    if form in (FlagForm.WORDS, FlagForm.INTEGERS):
        return str | None, ",".join(map(str, default)) or None
    if form is FlagForm.TEXT:
        return Path | None, None
    if isinstance(default, tuple):  # a flag that is repeated
        return list[str] | None, None
    if os.PathLike in map(_origin, get_args(annotation)):
        return str | None, default
    return form or annotation, default


def _origin(kind: Any) -> Any:
    return getattr(kind, "__origin__", kind)


def _value(option: Field[Any], typed: Any) -> Any:
    """Return what was typed as the option's value."""
    read = _READERS.get(option.metadata["flag"])
    return typed if read is None else read(_names(option)[-1], typed)


def _words(_flag: str, text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _integers(flag: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{flag} must be comma-separated integers, got {text!r}") from None


def _names_or_files(flag: str, given: Sequence[str]) -> list[str]:
    """Return names; a comma is part of a file's name if there is such a file."""
    lists = [[each] if each and Path(each).exists() else _words(flag, each) for each in given]
    return [name for names in lists for name in names]


_READERS: dict[Any, Callable[[str, Any], Any]] = {
    FlagForm.WORDS: _words,
    FlagForm.INTEGERS: _integers,
    FlagForm.NAMES: _names_or_files,
    FlagForm.TEXT: read_file,
}
