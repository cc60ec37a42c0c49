"""Whether anybody waits for what a thread makes. What has not begun is left out if nobody does."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

Result = TypeVar("Result")

SECONDS_BETWEEN_LOOKS = 0.1

_is_wanted: ContextVar[Callable[[], bool]] = ContextVar("is_wanted", default=lambda: True)


class Unwanted(BaseException):  # no error: as KeyboardInterrupt, it ends the work
    """Nobody waits for the result any more."""


@contextmanager
def wanted_while(is_wanted: Callable[[], bool]) -> Iterator[None]:
    """Say whether anybody waits for what the block makes."""
    token = _is_wanted.set(is_wanted)
    try:
        yield
    finally:
        _is_wanted.reset(token)


def check_wanted() -> None:
    """Raise Unwanted if nobody waits for what this thread makes."""
    if not _is_wanted.get()():
        raise Unwanted


async def run_in_thread(
    executor: Executor | None, function: Callable[..., Result], *args: Any, **given: Any
) -> Result:
    """Return what a function returns, called in a thread; being cancelled makes it unwanted.

    executor: whose threads; None are those of asyncio.
    """
    has_left = threading.Event()
    context = contextvars.copy_context()
    context.run(_is_wanted.set, lambda: not has_left.is_set())
    call = functools.partial(context.run, function, *args, **given)
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, call)
    except asyncio.CancelledError:
        has_left.set()
        raise
