"""The commands by name. One is imported when it is needed: all of them take half a second."""

from __future__ import annotations

import functools
import importlib
from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from localgen._util.home import expand_user
from localgen.cli.messages import note_command


@dataclass(frozen=True)
class _Place:
    """Where a command is defined, as ``module:name`` within this folder.

    short_help: stands in the list of commands instead of the first sentence of its docstring.
    """

    where: str
    short_help: str | None = None

    def load(self, name: str) -> Any:
        """Return the command, imported."""
        module, _, attribute = self.where.partition(":")
        found = getattr(importlib.import_module(f"localgen.cli.{module}"), attribute)
        if isinstance(found, typer.Typer):  # a group of commands
            return typer.main.get_command(found)
        alone = typer.Typer(rich_markup_mode=None, add_completion=False)
        alone.command(name, short_help=self.short_help)(_with_home(found))
        return typer.main.get_command(alone)


PLACES = {
    "generate": _Place("generate:generate"),
    "batch": _Place("batch:batch", "Generate text for every prompt in a JSON Lines file."),
    "chat": _Place("chat:chat"),
    "serve": _Place("serve:serve", "Serve models over HTTP, with OpenAI's API and a page."),
    "classify": _Place(
        "classify:classify", "Print the probability of labels for every line of a file."
    ),
    "eval": _Place("eval:eval_tasks", "Run tasks of lm-evaluation-harness on a model."),
    "inspect": _Place("inspect:inspect", "Describe a model and estimate the memory it needs."),
    "quantize": _Place("quantize:quantize", "Quantize a model to one or more levels."),
    "imatrix": _Place("imatrix:imatrix", "Make an importance matrix, which low levels need."),
    "compare": _Place("compare:compare", "Compare quantization levels and recommend one."),
    "report": _Place("report:report", "Make the page of earlier comparisons again."),
    "bench": _Place("bench:bench", "Measure a model's speed against plain llama.cpp."),
    "tune": _Place("tune:tune", "Find and remember the fastest settings of a model."),
    "doctor": _Place(
        "doctor:doctor", "Check what is installed, how fast it runs, and what is wrong."
    ),
    "models": _Place("models:models"),
}


def _with_home(command: Callable[..., None]) -> Callable[..., None]:
    """Return ``command`` with "~" replaced in the paths it gets.

    A shell does not replace it in --output=~/FILE, and a folder "~" would be made.
    """

    @functools.wraps(command)
    def run(**values: Any) -> None:
        command(**{name: _expanded(value) for name, value in values.items()})

    return run


def _expanded(value: Any) -> Any:
    if isinstance(value, list):
        return [_expanded(each) for each in value]
    return expand_user(value) if isinstance(value, Path) else value


class _Commands(UserDict[str, Any]):
    """The commands, each a ``_Place`` until it is first asked for."""

    def __getitem__(self, name: str) -> Any:
        found = self.data[name]
        if isinstance(found, _Place):
            found = self.data[name] = found.load(name)
        return found


class CommandGroup(TyperGroup):
    """The command ``localgen``, which knows the names of its commands without importing them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands(PLACES)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command's name, itself and its arguments, and note its flags for messages."""
        found = super().resolve_command(ctx, args)
        if found[1] is not None:
            note_command(found[1])
        return found

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of ``PLACES``."""
        return list(self.commands)
