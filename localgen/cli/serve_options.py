"""The flags of the server, made from ``ServeConfig``, which lists its options once."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, get_type_hints

import typer

from localgen.cli.flag_names import flag_of
from localgen.serve.config import ServeConfig


def _parameter(option: Field[Any], annotation: Any) -> inspect.Parameter:
    """Return an option as the parameter that typer reads."""
    flag = flag_of(option.name)
    default = option.default
    if default is True:
        flag = f"{flag}/--no-{flag[2:]}"
    if isinstance(default, tuple):  # a flag that is repeated
        annotation, default = list[str] | None, None
    assert default is not MISSING
    told = typer.Option(
        flag,
        help=option.metadata["help"],
        metavar=option.metadata["metavar"],
        show_default=option.metadata["shown"] or True,
    )
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[annotation, told],
    )


def _parameters() -> Iterable[inspect.Parameter]:
    types = get_type_hints(ServeConfig)
    for option in fields(ServeConfig):
        if option.metadata["help"]:
            yield _parameter(option, types[option.name])


class ServeOptions:
    """The options of ``ServeConfig`` as they were typed."""

    __signature__ = inspect.Signature([*_parameters()])

    def __init__(self, **values: Any) -> None:
        self._values = values

    def config(self, max_sequences: int, **more: Any) -> ServeConfig:
        """Return a ServeConfig with these options and ``more``. Raises ValueError.

        max_sequences: of each model, and so the default of ``max_running``.
        """
        given = {name: value for name, value in self._values.items() if value is not None}
        return ServeConfig(**{"max_running": max_sequences, **given, **more})
