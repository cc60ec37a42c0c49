"""Ctrl-C that is noted: whose handler is replaced, and that it always comes back."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from localgen._util.interrupts import DeferredInterrupt

set_handler = signal.signal


@pytest.fixture(autouse=True)
def _python_s_own_handler() -> Iterator[None]:
    before = set_handler(signal.SIGINT, signal.default_int_handler)
    yield
    set_handler(signal.SIGINT, before)


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def test_one_is_noted_and_raised_at_the_end() -> None:
    seen = []

    def work() -> None:
        with DeferredInterrupt() as interrupted:
            seen.append(interrupted())
            interrupt()
            seen.append(interrupted())

    with pytest.raises(KeyboardInterrupt):
        work()
    assert seen == [False, True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_one_is_raised_at_once() -> None:
    reached = []

    def work() -> None:
        with DeferredInterrupt():
            interrupt()
            reached.append(1)
            interrupt()
            reached.append(2)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_of_the_block_is_raised_instead() -> None:
    def work() -> None:
        with DeferredInterrupt():
            interrupt()
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        work()


def test_a_programs_own_handler_is_never_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even for a moment: a signal in that moment would be lost for it."""
    calls: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _frame: calls.append(number))
    monkeypatch.setattr(signal, "signal", lambda *_: pytest.fail("the handler was replaced"))
    with DeferredInterrupt() as interrupted:
        interrupt()
        assert not interrupted()
    assert calls == [signal.SIGINT]


def test_a_handler_that_python_does_not_know_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``getsignal`` is None for one that C code installed, and it cannot be put back."""
    monkeypatch.setattr(signal, "getsignal", lambda _: None)
    monkeypatch.setattr(signal, "signal", lambda *_: pytest.fail("the handler was replaced"))
    with DeferredInterrupt():
        pass


def test_a_main_thread_that_may_set_no_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a sub-interpreter, whose main thread gets no signals."""

    def refuse(*_: object) -> None:
        raise ValueError("signal only works in main thread of the main interpreter")

    monkeypatch.setattr(signal, "signal", refuse)
    with DeferredInterrupt() as interrupted:
        assert not interrupted()


def test_the_first_one_may_be_the_callers() -> None:
    """With ``on_interrupt`` it is for the caller to raise; another handler may be replaced."""
    calls: list[str] = []
    own = lambda *_: calls.append("own")  # noqa: E731
    signal.signal(signal.SIGINT, own)
    with DeferredInterrupt(lambda: calls.append("noted"), over=own):
        interrupt()
    assert calls == ["noted"]
    assert signal.getsignal(signal.SIGINT) is own
