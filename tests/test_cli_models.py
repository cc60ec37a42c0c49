"""``localgen models``: its help, and its table of aliases in a terminal."""

from __future__ import annotations

from tests.test_cli import ENVIRONMENT, localgen_command


def test_the_help_s_sentences_are_whole() -> None:
    """ "rm" ended in "all of...", and the names of "pull" had two ellipses."""
    shown = localgen_command("models", "--help", env={**ENVIRONMENT, "COLUMNS": "80"})
    assert "Remove models from the Hub's cache.\n" in shown.stdout
    assert "..." not in shown.stdout.replace("[ARGS]...", "")
    usage = localgen_command("models", "pull", "--help").stdout.splitlines()[0]
    assert usage.count("...") == 1
