"""Ctrl-C in an event loop of our own."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from typing import Any

from localgen._util.interrupts import DeferredInterrupt


def run_until_interrupt(main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` as ``asyncio.run`` does, but let Ctrl-C cancel it between two callbacks.

    ``asyncio.run`` alone cancels from within the signal handler. If that happens between a
    callback's check of a future and its change of it, asyncio reports an InvalidStateError; and
    before Python 3.11 the callback itself is torn apart. Raises KeyboardInterrupt once all tasks
    have ended. A second Ctrl-C is raised at once, as in ``asyncio.run``. Another handler than
    Python's own stays in place, and other threads get no signals.
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
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    # Also wakes a loop that sleeps. From Python 3.11 on, asyncio has a handler of its own here.
    cancel = lambda: loop.call_soon_threadsafe(task.cancel)  # noqa: E731
    with DeferredInterrupt(cancel, over=signal.getsignal(signal.SIGINT)):
        await main
