"""Messages of the library name options as they were typed, whichever command runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localgen.cli import app, options
from localgen.cli.commands import PLACES
from localgen.cli.options import _ORDINARY_WORDS, as_flags, note_command


@pytest.fixture(autouse=True)
def no_command() -> Iterator[None]:
    options._of_the_command.clear()
    yield
    options._of_the_command.clear()


@pytest.mark.parametrize("name", [name for name in PLACES if name != "models"])
def test_each_flag_of_each_command_is_named(name: str) -> None:
    command = PLACES[name].load(name)
    note_command(command)
    for parameter in command.params:
        flags = [flag for flag in parameter.opts if flag.startswith("--")]
        if flags and parameter.name not in _ORDINARY_WORDS:
            said = as_flags(f"{parameter.name} must be something else")
            assert said.split()[0] in flags, said


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--depths", "4", "--no-speed"], "--depths cannot be used with --no-speed: it is the"),
        (["--energy", "--no-speed"], "--energy cannot be used with --no-speed: energy is meas"),
        (["--devices", "tpu"], "each of --devices must be auto"),
        (["--tasks", ""], "--tasks has an empty name"),
        (["--task-limit", "3", "--rounds", "0"], "--rounds must be at least 1"),
    ],
)
def test_messages_of_compare(
    typed: list[str],
    message: str,
    tiny_bpe_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They said "depths needs speed=True", which nobody had typed."""
    monkeypatch.setattr("sys.argv", ["localgen", "compare", str(tiny_bpe_path), *typed])
    assert app.run_command() == app.USAGE
    assert f"localgen: {message}" in capsys.readouterr().err
