"""The flags of ``SamplingOptions``, which lists each option once."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Annotated, Any, get_args, get_type_hints

import typer

from localgen._util.json_text import read_json
from localgen.config import SamplingOptions


def _json(text: str) -> Any:
    """Return the value of a flag that takes JSON; a typer error if it is not JSON."""
    try:
        return read_json(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r:.40} is not JSON: {error}") from None


def _switch_or_word(text: object) -> bool | str:
    """Return the value of a flag that takes true, false or a word."""
    return {"true": True, "false": False}.get(str(text).lower(), str(text))


def _typed_flag(annotation: Any, text: str) -> Any:
    """Return what typer reads a flag by; ``text`` is its help."""
    types = {*(get_args(annotation) or (annotation,))}
    if types == {bool, str}:
        return Annotated[Any, typer.Option(help=text, parser=_switch_or_word, metavar="WORD")]
    if not types <= {bool, int, float, str, type(None)}:
        return Annotated[Any, typer.Option(help=text, parser=_json, metavar="JSON")]
    return Annotated[annotation, typer.Option(help=text)]


def _sampling_flags() -> list[inspect.Parameter]:
    """Return a parameter for each of ``SamplingOptions`` that has a help text."""
    types = get_type_hints(SamplingOptions)
    return [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            # A list by default is one that the library fills in.
            default=None if isinstance(each.default, tuple) else each.default,
            annotation=_typed_flag(
                each.metadata["flag"] or types[each.name], each.metadata["help"]
            ),
        )
        for each in fields(SamplingOptions)
        if each.metadata["help"]
    ]


SAMPLING_FLAGS = _sampling_flags()
