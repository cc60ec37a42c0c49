"""Messages of the library name options as they were typed, whichever command runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localgen.cli import app, messages
from localgen.cli.commands import PLACES
from localgen.cli.messages import _ORDINARY_WORDS, as_flags, note_command


@pytest.fixture(autouse=True)
def no_command() -> Iterator[None]:
    messages._of_the_command.clear()
    yield
    messages._of_the_command.clear()


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


@pytest.mark.parametrize(
    ("command", "message", "expected"),
    [
        ("generate", "n_ctx must be at least 8", "--n-ctx must be at least 8"),
        ("generate", "use kv_type='q8_0'", "use --kv-type 'q8_0'"),
        ("generate", "pass do_sample=False", "pass --no-do-sample"),
        ("quantize", "set allow_requantize=True", "set --allow-requantize"),
        ("quantize", "set allow_requantize=True.", "set --allow-requantize."),
        ("generate", "use top_p=0.9.", "use --top-p 0.9."),
        ("compare", "n_rounds must be at least 1", "--rounds must be at least 1"),
        ("compare", "kv_types must be one of", "--kv-types must be one of"),
        # Names that start like an option, and words that are also options.
        (
            "generate",
            "n_ctx_train is 2048, the temperature",
            "n_ctx_train is 2048, the temperature",
        ),
        ("generate", "temperature must be above 0", "--temperature must be above 0"),
        ("chat", "reasoning='high' needs a template", "--reasoning 'high' needs a template"),
        (
            "chat",
            "has no reasoning: leave reasoning out or",
            "has no reasoning: leave --reasoning out or",
        ),
        ("generate", "each of choices must be a text", "each of --choice must be a text"),
        # In quotes, they are samplers.
        ("generate", "names of 'top_k', 'min_p'", "names of 'top_k', 'min_p'"),
    ],
)
def test_messages_name_options_as_they_are_typed(command: str, message: str, expected: str) -> None:
    note_command(PLACES[command].load(command))
    assert as_flags(message) == expected


def test_options_of_other_commands_keep_the_name_that_the_library_has() -> None:
    note_command(PLACES["chat"].load("chat"))
    assert as_flags("pass allow_requantize=True") == "pass allow_requantize=True"
