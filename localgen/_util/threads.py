"""Runs a function in a thread of its own and hands back its result or exception."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def start_thread(work: Callable[[], Result], name: str) -> tuple[threading.Thread, Future[Result]]:
    """Start ``work`` in a daemon thread; return the thread and the future result."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # any exception is raised where the result is asked for
            future.set_exception(error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread, future
