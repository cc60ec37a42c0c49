"""Progress in a log: few lines, with a time left."""

from __future__ import annotations

import pytest

from localgen._util import progress
from localgen._util.plain_progress import PlainProgress, as_duration


def test_lines_come_rarely_and_say_how_long_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    plain = PlainProgress("comparing", clock=lambda: now)
    for number in range(1000):
        now = 4.0 * number
        plain.step(number, 1000, "quality of Q4_0")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == ("localgen: comparing: 3 of 1000, about 66 min left; quality of Q4_0")
    assert 10 < len(lines) < 40


def test_a_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(100):
        PlainProgress("comparing", clock=lambda: 1.0).step(number, 100, "a")
    assert not capsys.readouterr().err


def test_work_of_unknown_length(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 20.0])
    PlainProgress("measuring", clock=lambda: next(times)).step(3, 0, "a")
    assert capsys.readouterr().err == "localgen: measuring: 3; a\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(40, "40 s"), (89.6, "90 s"), (200, "3 min"), (5400, "1.5 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert as_duration(seconds) == text


def test_bars_are_lines_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localgen._util.plain_progress._FIRST_SECONDS", 0.0)
    with progress.step_bar("importance matrix") as step:
        step(0, 2, "chunks")
    with progress.tensor_bars(["importance matrix", "Q8_0"]) as started:
        started(1, 3, "chunks")
        started(1, 2, "token_embd.weight")
    assert capsys.readouterr().err.splitlines() == [
        "localgen: importance matrix: 0 of 2; chunks",
        "localgen: importance matrix: 1 of 3; chunks",
        "localgen: Q8_0: 1 of 2; token_embd.weight",
    ]
