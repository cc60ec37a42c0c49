"""Ctrl-C at every line of a call, and again at every line after that.

A real signal comes each time, so that Python's own handler, or the one that replaces it, decides.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import localgen
from localgen.generation.streaming import CompletionStream
from tests.fakes import FakeModel, engine_of, fake_model, reference_greedy

A, B = list(b"the first"), list(b"another")
PACKAGE = Path(localgen.__file__).parent
# Where turns are taken and given, and what one does.
TURNS = ("generation/driver.py", "_util/interrupts.py")
ENGINE = (*TURNS, "engine/engine.py", "engine/slots.py", "engine/scheduler.py")
EVERY = 1_000_000
RIGHT = [reference_greedy(prompt, 2) for prompt in (A, B)]

Call = Callable[[FakeModel], object]
Line = tuple[CodeType, int]


def complete(model: FakeModel) -> object:
    return model.complete([A], max_new_tokens=2)


def several(model: FakeModel) -> object:
    return model.complete([A, B, A], max_new_tokens=2)


def stream(model: FakeModel) -> object:
    return list(model.stream(A, max_new_tokens=2))


def score(model: FakeModel) -> object:
    return model.score(A)


def prefill(model: FakeModel) -> object:
    with model.prefill(A) as prefix:
        return prefix


def hooked(model: FakeModel) -> object:
    options: dict[str, Any] = {"stopping_criteria": lambda _ids, _scores: False}
    return model.generate([A], max_new_tokens=2, **options)


CALLS = [complete, stream, score, prefill, hooked]


class Signals:
    """Raises SIGINT before the lines of these numbers, counted in these files.

    lines: the lines that were reached, as (code, number in its file).
    """

    def __init__(self, files: tuple[str, ...], numbers: range | tuple[int, ...] = ()) -> None:
        self._files = frozenset(str(PACKAGE / name) for name in files)
        self._numbers = numbers
        self.lines: list[Line] = []

    def trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        if frame.f_code.co_filename not in self._files:
            return None
        if event == "line":
            self.lines.append((frame.f_code, frame.f_lineno))
            if len(self.lines) - 1 in self._numbers:
                signal.raise_signal(signal.SIGINT)
        return self.trace


@pytest.fixture(autouse=True)
def _python_s_own_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    tracing = sys.gettrace()
    yield
    sys.settrace(tracing)
    signal.signal(signal.SIGINT, before)


def lines_of(
    model: FakeModel, call: Call, files: tuple[str, ...], numbers: range | tuple[int, ...] = ()
) -> list[Line]:
    """Make a call, with SIGINT before these of its lines; return the lines that it had."""
    signals = Signals(files, numbers)
    try:
        sys.settrace(signals.trace)
        call(model)
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
    return signals.lines


def check_usable(model: FakeModel, where: object) -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, where
    driver = model._driver
    assert (driver._driver, driver._n_asleep, driver._n_urgent) == (None, 0, 0), where
    done = model.complete([A, B], max_new_tokens=2)
    assert [each.token_ids for each in done] == RIGHT, where
    assert engine_of(model).idle, where
    assert engine_of(model).kv_cache.n_pinned == 0, where


@pytest.mark.slow
def test_a_second_one_at_any_line_after_the_first() -> None:
    """The turn is free and the model is exact, wherever the two fall: each line once as the first,
    and each line once as the second after one in each function."""
    model = fake_model()
    firsts: set[Line] = set()
    pairs: set[tuple[CodeType, Line]] = set()
    for call in CALLS:
        call(model)
        for first, line in enumerate(lines_of(model, call, TURNS)):
            if line in firsts:
                continue
            firsts.add(line)
            lines = lines_of(model, call, TURNS, (first,))
            check_usable(model, line)
            for second in range(first + 1, len(lines)):
                pair = line[0], lines[second]
                if pair not in pairs:
                    pairs.add(pair)
                    lines_of(model, call, TURNS, (first, second))
                    check_usable(model, pair)
    assert len(firsts) > 50
    assert len(pairs) > 300


@pytest.mark.slow
def test_one_at_every_line_from_some_line_on() -> None:
    """However many come, the engine's own state is not torn apart."""
    model = fake_model()
    tried: set[Line] = set()
    for call in (*CALLS, several):
        call(model)
        for first, line in enumerate(lines_of(model, call, ENGINE)):
            if line not in tried:
                tried.add(line)
                lines_of(model, call, ENGINE, range(first, EVERY))
                check_usable(model, line)
    assert len(tried) > 200


def test_a_prefix_that_was_computed_as_ctrl_c_came_is_not_pinned() -> None:
    """Regression: nobody had it, so its room was gone for good."""
    model = fake_model()
    model.backend.on_decode = lambda: signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        model.prefill(A)
    model.backend.on_decode = lambda: None
    check_usable(model, "prefill")


def test_a_stream_whose_making_was_interrupted_is_dropped_in_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Regression: Python printed an AttributeError of ``__del__``."""
    reported: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    stream = CompletionStream.__new__(CompletionStream)
    del stream
    assert not reported
