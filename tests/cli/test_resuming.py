"""The command that continues an interrupted one: the same, with --resume."""

from __future__ import annotations

import pytest

from localgen.cli.resuming import resume_command


@pytest.mark.parametrize("started", [[], ["--overwrite"], ["--resume"]])
def test_the_command_keeps_all_but_how_it_started(
    started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --overwrite it would be refused, or start over."""
    monkeypatch.setattr("sys.argv", ["/bin/localgen", "-v", "compare", "m", *started, "-o", "r"])
    assert resume_command() == "localgen -v compare m -o r --resume"
