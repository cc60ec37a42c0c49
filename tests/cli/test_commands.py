"""The commands by name: each is found where its place says, and none is imported in vain."""

from __future__ import annotations

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
