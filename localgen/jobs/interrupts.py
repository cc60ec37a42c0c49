"""Ctrl-C in an event loop of our own."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


def run_until_interrupt(main: Coroutine[Any, Any, None]) -> None:
    """``asyncio.run(main)``, cancelled by Ctrl-C between two callbacks of the loop.

    ``asyncio.run`` alone cancels from within the signal handler. Where that falls between a
    callback's look at a future and its change of it, asyncio reports an InvalidStateError; and
    before Python 3.11 the callback itself is torn apart. Raises KeyboardInterrupt once all tasks
    have ended. A second Ctrl-C is raised at once, as in ``asyncio.run``. Another handler than
    Python's own is left alone, and other threads get no signals.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        asyncio.run(main)
        return
    try:
        asyncio.run(_cancelled_by_interrupt(main))
    except asyncio.CancelledError:
        # Nobody else has the task to cancel it.
        raise KeyboardInterrupt from None


async def _cancelled_by_interrupt(main: Coroutine[Any, Any, None]) -> None:
    task = asyncio.current_task()
    assert task is not None
    with _interrupts_cancel(task, asyncio.get_running_loop()):
        await main


@contextmanager
def _interrupts_cancel(task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    n_interrupts = 0
    previous = signal.getsignal(signal.SIGINT)

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal n_interrupts
        n_interrupts += 1
        if n_interrupts > 1:
            # Here, for it may come where that is about to be done.
            signal.signal(signal.SIGINT, previous)
            raise KeyboardInterrupt
        # Also wakes a loop that sleeps.
        loop.call_soon_threadsafe(task.cancel)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        # After a second one ``asyncio.run`` has put back what was before it, already.
        if signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, previous)
