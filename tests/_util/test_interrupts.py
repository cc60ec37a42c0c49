"""Ctrl-C that is noted: whose handler is replaced, and that it always comes back."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from localgen._util.interrupts import DeferredInterrupt, second_interrupt_raises

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


def test_no_further_one_is_raised_in_the_block() -> None:
    reached = []

    def work() -> None:
        with DeferredInterrupt():
            for number in range(3):
                interrupt()
                reached.append(number)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == [0, 1, 2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("n_before", [0, 1])
def test_a_second_one_is_raised_at_once_where_it_may(n_before: int) -> None:
    """Only one is: what then cleans up is not interrupted."""
    reached = []

    def work() -> None:
        with DeferredInterrupt():
            try:
                for _ in range(n_before):
                    interrupt()
                with second_interrupt_raises():
                    for number in range(3):
                        interrupt()
                        reached.append(number)
            finally:
                interrupt()
                reached.append(99)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == [0, 99][n_before:]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_may_be_raised_nowhere_else() -> None:
    """Not after the part where it may, and such a part alone changes nothing."""
    reached = []

    def work() -> None:
        with DeferredInterrupt():
            with second_interrupt_raises():
                pass
            interrupt()
            interrupt()
            reached.append(1)

    with second_interrupt_raises():
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == [1]


def test_a_block_inside_another_notes_its_own_and_hands_it_on() -> None:
    """As when a caller's function uses a second model: its step is not torn either."""
    seen: list[object] = []

    def work() -> None:
        with DeferredInterrupt() as outer, second_interrupt_raises():
            interrupt()
            try:
                with DeferredInterrupt() as inner:
                    seen.append(inner())
                    interrupt()
                    seen.append(inner())
            finally:
                seen.append(outer())
            seen.append("the second one was lost")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert seen == [False, True, True]


def test_a_block_inside_one_of_the_callers_hands_on_what_it_noted() -> None:
    """As in a job's event loop: the first one is the caller's to raise."""
    calls = []
    with DeferredInterrupt(lambda: calls.append("noted")):
        with DeferredInterrupt():
            interrupt()
            calls.append("inside")
        calls.append("after")
    assert calls == ["inside", "noted", "after"]


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
