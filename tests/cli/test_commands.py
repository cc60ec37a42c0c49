"""The commands by name: each is found where its place says, and none is imported in vain."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from localgen.cli.app import app
from localgen.cli.commands import PLACES
from tests.conftest import RunChild

ONE = """
import sys
from localgen.cli.app import run_command

sys.argv = ["localgen", "models", "aliases"]
assert run_command() == 0
print(sorted(name for name in sys.modules if name.startswith("localgen.cli.")))
"""


def test_every_command_is_where_its_place_says() -> None:
    """With the name that users type and a line for the list of commands."""
    group = typer.main.get_command(app)
    commands = dict(group.commands)  # type: ignore[attr-defined]
    assert list(commands) == list(PLACES)
    for name, command in commands.items():
        assert command.name == name
        assert command.get_short_help_str(100).endswith(".")
        assert command is group.commands[name]  # type: ignore[attr-defined]


def test_a_command_does_not_import_the_others(run_child: RunChild) -> None:
    """Importing all of them takes half a second, with each start."""
    done = run_child(ONE)
    assert done.returncode == 0, done.stderr
    imported = done.stdout.splitlines()[-1]
    assert "localgen.cli.models" in imported
    for other in ("generate", "compare", "doctor"):
        assert f"localgen.cli.{other}" not in imported


def test_the_first_line_of_help_names_each_argument_once() -> None:
    """Regression: brackets and an ellipsis of our own came on top of the library's: [[TEXT…]]..."""
    group = typer.main.get_command(app)
    for path, command in _leaves(group):
        usage = command.get_usage(command.context_class(command, info_name=path))
        assert not re.search(r"\[\[|\{\[|…|\{\{", usage), usage


def _leaves(group: Any, path: str = "localgen") -> Iterator[tuple[str, Any]]:
    """Yield each command that has no commands of its own, with what is typed for it."""
    for name, command in group.commands.items():
        typed = f"{path} {name}"
        yield from _leaves(command, typed) if hasattr(command, "commands") else [(typed, command)]
