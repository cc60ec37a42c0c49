"""Runs a function in a thread of its own and hands back its result or exception.

While it waits for such a thread, a caller's work goes on there; see ``thread_in_charge``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")

# A thread's identifier → that of the thread that waits for it.
_in_charge: dict[int, int] = {}


def thread_in_charge() -> int:
    """Return the identifier of the thread whose work this one does: its own, unless it was started
    for another one."""
    own = threading.get_ident()
    return _in_charge.get(own, own)


@contextmanager
def working_for(thread: int) -> Iterator[None]:
    """Inside the block, this thread does the work of ``thread``."""
    own = threading.get_ident()
    _in_charge[own] = thread
    try:
        yield
    finally:
        del _in_charge[own]


def start_thread(work: Callable[[], Result], name: str) -> tuple[threading.Thread, Future[Result]]:
    """Start ``work`` in a daemon thread; return the thread and the future result."""
    future: Future[Result] = Future()
    starter = thread_in_charge()

    def run() -> None:
        try:
            with working_for(starter):
                result = work()
            future.set_result(result)
        except BaseException as error:  # any exception is raised where the result is asked for
            future.set_exception(error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread, future
