"""Levels are made, measured and one of them recommended."""

from __future__ import annotations

import pytest

from localgen.compare import Comparison, LevelResult
from tests.examples.conftest import RunExample, load_example

NAME = "compare_levels.py"
LEVELS = (
    LevelResult(name="Q8_0", is_reference=True, file_bytes=145_000_000),
    LevelResult(name="Q4_0", file_bytes=92_000_000, kld_mean=0.25),
    LevelResult(name="IQ2_XS", error="it needs an importance matrix"),
)


@pytest.mark.slow
@pytest.mark.real
def test_the_smallest_level_within_the_limits_is_kept(run_example: RunExample) -> None:
    done = run_example(
        NAME, "--levels", "Q8_0", "Q4_0", "--chunks", 1, "--budget", "120MB", "--max-kld", 10
    )
    assert done.returncode == 0, done.stderr
    header, reference, smaller, sentence = done.stdout.splitlines()
    assert header.split()[0] == "level"
    assert reference.split()[0] == "Q8_0"
    assert reference.endswith("reference")
    assert smaller.split()[0] == "Q4_0"
    assert sentence.startswith("Keep Q4_0")


def test_a_budget_that_nothing_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a level that failed, whose reason stands in its row."""
    example = load_example(NAME)
    found = Comparison(source="model.gguf", settings={}, levels=LEVELS)
    monkeypatch.setattr(example, "compare", lambda *args, **options: found)
    monkeypatch.setattr("sys.argv", [NAME, "--budget", "10MB"])
    assert example.main() == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[3] == "IQ2_XS   failed: it needs an importance matrix"
    assert "Q4_0" in err
    assert "92 MB" in err
