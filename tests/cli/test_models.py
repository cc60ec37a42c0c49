"""``localgen models``: its help, and its table of aliases in a terminal."""

from __future__ import annotations

import pexpect

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
