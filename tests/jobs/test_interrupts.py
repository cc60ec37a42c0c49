"""Ctrl-C in a job's event loop, with signals that fall where they hurt."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable

import pytest

from localgen.jobs.interrupts import run_until_interrupt


async def interrupted_once() -> None:
    signal.raise_signal(signal.SIGINT)


async def interrupted_never() -> None:
    await asyncio.sleep(0)


async def until_interrupted_in(callback: Callable[[asyncio.Future[None]], None]) -> None:
    """Waits for a future that ``callback`` gets, from a callback of the loop."""
    loop = asyncio.get_running_loop()
    waited_for = loop.create_future()
    loop.call_soon(callback, waited_for)
    await waited_for
    # A cancellation that was asked for in the same pass comes here.
    await asyncio.sleep(3600)


def test_callback_is_not_torn_apart() -> None:
    """What a callback saw of a future still holds after a signal: InvalidStateError otherwise."""
    steps = []

    def look_and_set(waited_for: asyncio.Future[None]) -> None:
        assert not waited_for.done()
        signal.raise_signal(signal.SIGINT)
        waited_for.set_result(None)
        steps.append("set")

    with pytest.raises(KeyboardInterrupt):
        run_until_interrupt(until_interrupted_in(look_and_set))
    assert steps == ["set"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_tasks_end_first() -> None:
    """A ``finally`` may still await something after Ctrl-C."""
    steps = []

    async def main() -> None:
        try:
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            steps.append("ended")

    with pytest.raises(KeyboardInterrupt):
        run_until_interrupt(main())
    assert steps == ["ended"]


def test_second_one_is_raised_at_once() -> None:
    """In a callback that never ends the first alone would do nothing."""
    steps = []

    def hang(_waited_for: asyncio.Future[None]) -> None:
        signal.raise_signal(signal.SIGINT)
        steps.append("first")
        signal.raise_signal(signal.SIGINT)
        steps.append("second")

    with pytest.raises(KeyboardInterrupt):
        run_until_interrupt(until_interrupted_in(hang))
    assert steps == ["first"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_handler_is_left_alone() -> None:
    """A program that handles SIGINT itself goes on doing so."""
    got: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, _frame: got.append(number))
    try:
        run_until_interrupt(interrupted_once())
    finally:
        signal.signal(signal.SIGINT, previous)
    assert got == [signal.SIGINT]


def test_other_thread() -> None:
    """Python allows signal handlers in the main thread alone."""
    done: list[bool] = []

    def work() -> None:
        run_until_interrupt(interrupted_never())
        done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


def test_error_of_the_job() -> None:
    """It is raised as it is."""

    async def fail() -> None:
        raise ValueError("of the job")

    with pytest.raises(ValueError, match="of the job"):
        run_until_interrupt(fail())


def test_nothing_is_left_behind() -> None:
    """The handler of before is back, so a later Ctrl-C is Python's own."""
    run_until_interrupt(interrupted_never())
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
