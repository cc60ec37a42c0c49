"""``localgen models``: its help, and its table of aliases in a terminal."""

from __future__ import annotations

import json
import time

import pexpect
import pytest

from localgen.cli import models
from localgen.hub import inventory
from localgen.hub.catalog import catalog
from tests.cli.test_generate import COMMAND, ENVIRONMENT, localgen_command
from tests.conftest import CHILD_SECONDS


def test_help_does_not_cut_sentences() -> None:
    """Regression: "rm" ended in "all of...", and the names of "pull" had two ellipses."""
    shown = localgen_command("models", "--help", env={**ENVIRONMENT, "COLUMNS": "80"})
    assert "Remove models from the Hub's cache.\n" in shown.stdout
    assert "..." not in shown.stdout.replace("[ARGS]...", "")
    usage = localgen_command("models", "pull", "--help").stdout.splitlines()[0]
    assert usage.count("...") == 1


def test_aliases_in_a_terminal() -> None:
    """Regression: names of repositories were cut in two and could not be copied."""
    environment = {**ENVIRONMENT, "COLUMNS": "80"}
    child = pexpect.spawn(
        COMMAND[0], [*COMMAND[1:], "models", "aliases"], timeout=CHILD_SECONDS, env=environment,
        encoding="utf-8", dimensions=(50, 80),
    )  # fmt: skip
    child.expect(pexpect.EOF)
    lines = child.before.splitlines()
    assert max(map(len, lines)) <= 80
    for alias, entry in catalog().items():
        place = entry.repo or entry.install
        assert any(line.split()[:1] == [alias] and f" {place} " in line for line in lines)
        assert set(entry.description.split()) <= set(child.before.split())


def test_a_machine_without_models(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing on stdout, and a hint on stderr; a JSON list is a list all the same."""
    monkeypatch.setattr(inventory, "on_this_machine", lambda _folders: [])
    models.list_models()
    said = capsys.readouterr()
    assert said.out == ""
    assert "no models found. Fetch one with: localgen models pull NAME" in said.err
    models.list_models(as_json=True)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("[]\n", "")


def test_aliases_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    models.aliases(as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert {alias: entry["repo"] for alias, entry in found.items()} == {
        alias: entry.repo for alias, entry in catalog().items()
    }


@pytest.mark.parametrize(
    ("days", "text"),
    [(-1, "today"), (0.9, "today"), (1.1, "yesterday"), (1.6, "2 days ago"), (30, "30 days ago")],
)
def test_when_a_model_was_used(days: float, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that was set back does not make it the future."""
    monkeypatch.setattr(time, "time", lambda: 1e9)
    assert models._age(1e9 - days * 86400) == text
