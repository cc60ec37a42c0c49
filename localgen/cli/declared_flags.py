"""Flags made from config classes, which declare each of their options once.

``localgen._util.option_fields`` has how they do.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, get_args, get_type_hints

import typer

from localgen._util.option_fields import FlagForm
from localgen.cli.files import read_file
from localgen.cli.flag_names import flag_of
from localgen.cli.option_groups import OptionGroup


class DeclaredOptions(OptionGroup):
    """The options of a config class as they were typed; a subclass names that class, with ``of``.

    Its signature has a parameter for each, which typer reads; with ``only``, for these, in their
    order. unset: those that are left to the library unless they are typed, which need not be what
    the class has as default. shown: defaults in words, by name, where the class has others.
    """

    __signature__: ClassVar[inspect.Signature]
    _fields: ClassVar[dict[str, Field[Any]]]

    def __init_subclass__(
        cls,
        *,
        of: Any,
        only: Sequence[str] = (),
        unset: Collection[str] = (),
        shown: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        types = get_type_hints(of)
        # The arguments that have a place come first, as in a call.
        declared = sorted(fields(of), key=lambda each: each.kw_only is True)
        flags = {each.name: each for each in declared if each.metadata["help"]}
        cls._fields = {name: flags[name] for name in only} if only else flags
        cls.__signature__ = inspect.Signature(
            [
                _parameter(
                    each,
                    types[name],
                    shown=shown.get(name) or each.metadata["shown"],
                    is_unset=name in unset,
                )
                for name, each in cls._fields.items()
            ]
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
            if typed is not None and typed != []
        }


def _parameter(
    option: Field[Any], annotation: Any, *, shown: str | None, is_unset: bool
) -> inspect.Parameter:
    """Return an option as the parameter that typer reads."""
    declared = option.metadata
    kind, default = _typed_as(declared["flag"], annotation, option.default)
    if is_unset and default is not None:
        kind, default, shown = kind | None, None, shown or str(default)
    told = typer.Option(
        *_names(option),
        help=declared["help"],
        metavar=declared["metavar"],
        show_default=shown or True,
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
    if isinstance(default, tuple) or form in (FlagForm.PAIRS, list[str]):  # a flag that is repeated
        return list[str] | None, None
    if os.PathLike in map(_origin, get_args(annotation)):
        return str | None, default
    return form or annotation, default


def _origin(kind: Any) -> Any:
    return getattr(kind, "__origin__", kind)


def _value(option: Field[Any], typed: Any) -> Any:
    """Return what was typed as the option's value."""
    read = _READERS.get(option.metadata["flag"])
    return typed if read is None else read(option, typed)


def _flag(option: Field[Any]) -> str:
    return _names(option)[-1]


def _words(_option: Field[Any], text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _integers(option: Field[Any], text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        message = f"{_flag(option)} must be comma-separated integers, got {text!r}"
        raise ValueError(message) from None


def _names_or_files(option: Field[Any], given: Sequence[str]) -> list[str]:
    """Return names; a comma is part of a file's name if there is such a file."""
    lists = [[each] if each and Path(each).exists() else _words(option, each) for each in given]
    return [name for names in lists for name in names]


def _pairs(option: Field[Any], given: Sequence[str]) -> dict[str, str]:
    """Return {name: value}. Raises ValueError for a text that is no pair, or a name given twice."""
    pairs: dict[str, str] = {}
    name_of, _, _ = option.metadata["metavar"].partition("=")
    for each in given:
        name, _, value = each.rpartition("=")
        if not (name and value):
            form = option.metadata["metavar"]
            raise ValueError(f"{_flag(option)} must be {form}, got {each!r}")
        if name in pairs:
            raise ValueError(f"{_flag(option)} names the {name_of.lower()} {name!r} twice")
        pairs[name] = value
    return pairs


def _text(option: Field[Any], path: Path) -> str:
    return read_file(_flag(option), path)


_READERS: dict[Any, Callable[[Field[Any], Any], Any]] = {
    FlagForm.WORDS: _words,
    FlagForm.INTEGERS: _integers,
    FlagForm.NAMES: _names_or_files,
    FlagForm.PAIRS: _pairs,
    FlagForm.TEXT: _text,
}
