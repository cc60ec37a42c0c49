"""A flag under the name that Python or another program has for it."""

from __future__ import annotations

import sys

import pytest

from localgen.cli.app import run_command


@pytest.mark.parametrize(
    ("command", "typed", "meant"),
    [
        ("generate", "--assistant-model", "--draft"),
        ("generate", "--temp", "--temperature"),
        ("generate", "--max-tokens", "--max-new-tokens"),
        ("generate", "--choices", "--choice"),
        ("generate", "-c", "--n-ctx"),
        ("chat", "--stop-strings", "--stop"),
        ("batch", "--parallel", "--max-sequences"),
    ],
)
def test_the_flag_that_is_meant(
    command: str,
    typed: str,
    meant: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["localgen", command, typed, "1"])
    assert run_command() == 2
    assert f"No such option: {typed} (Possible options: {meant})" in capsys.readouterr().err


def test_a_flag_that_the_command_lacks_is_not_suggested(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["localgen", "classify", "-", "--temp", "1"])
    assert run_command() == 2
    assert "--temperature" not in capsys.readouterr().err
