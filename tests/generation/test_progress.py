"""``complete(progress=True)``: the same results under a bar, and nothing left when it breaks."""

from __future__ import annotations

import io
import sys

import pytest

from localgen import GenerationInterrupted
from localgen._util import progress as bars
from localgen.generation import progress
from tests.fakes import engine_of, fake_model

PROMPTS = [list(b"one"), list(b"two"), list(b"three")]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the bar be drawn after a few steps."""
    monkeypatch.setattr(progress, "_SECONDS", 1e-3)


def test_the_results_are_those_without_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """The bar goes to stderr, which may be read by nobody."""
    shown = fake_model().complete(PROMPTS, max_new_tokens=5, progress=True)
    plain = fake_model().complete(PROMPTS, max_new_tokens=5)
    assert [row.token_ids for row in shown] == [row.token_ids for row in plain]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_call_that_breaks_leaves_nothing(error: type[BaseException]) -> None:
    """What ends the call comes through the bar, and the next call is right."""
    model = fake_model()
    passes = iter(range(3))

    def fail() -> None:
        if next(passes, None) is None:
            raise error

    model.backend.on_decode = fail
    expected = GenerationInterrupted if error is KeyboardInterrupt else error
    with pytest.raises(expected):
        model.complete(PROMPTS, max_new_tokens=9, progress=True)
    model.backend.on_decode = lambda: None
    assert engine_of(model).idle
    assert len(model.complete(PROMPTS, max_new_tokens=2, progress=True)) == 3


def test_a_stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a program's own tests; the division by no time once cost the results."""
    monkeypatch.setattr("time.perf_counter", lambda: 1.0)
    assert len(fake_model().complete(PROMPTS, max_new_tokens=2, progress=True)) == 3


def test_prints_stay_in_their_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar in the terminal once took what other threads print to a file or pipe."""
    stdout = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes stderr for a terminal, too
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(bars, "is_terminal", lambda stream: stream is sys.stderr)
    with bars.new_bar():
        assert sys.stdout is stdout


@pytest.mark.parametrize("is_notebook", [False, True])
def test_a_bar_in_a_notebook(is_notebook: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shown there, though a notebook's stderr is no terminal."""
    monkeypatch.setattr("rich.console._is_jupyter", lambda: is_notebook)
    bar = bars.new_bar()
    assert bar.disable is not is_notebook
    assert bar.console.quiet is not is_notebook
