"""Defers Ctrl-C to a point where work can stop cleanly."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class DeferredInterrupt:
    """Inside its block, Ctrl-C only makes the function that ``with`` returns return True.

    Nothing is raised in the block, however often it comes, but by ``second_interrupt_raises``. One
    that was noted and that nothing raised in the block is given to the earlier handler at its end.
    Only Python's own handler and that of a block around this one are replaced, and only in the main
    thread of the main interpreter: others get no signals.

    on_interrupt: called by the handler when the first one is noted, which then is the caller's to
    raise; a second one raises KeyboardInterrupt at once, as in ``asyncio.run``. over: the handler
    to replace instead of Python's own.
    """

    __slots__ = ("_is_interrupted", "_on_interrupt", "_over", "_previous", "_second_raises")

    def __init__(
        self,
        on_interrupt: Callable[[], object] | None = None,
        *,
        over: Any = signal.default_int_handler,
    ) -> None:
        self._on_interrupt = on_interrupt
        self._over = over
        self._previous: Any = None
        self._is_interrupted = False
        self._second_raises = on_interrupt is not None

    def __enter__(self) -> Callable[[], bool]:
        if gets_interrupts():
            previous = signal.getsignal(signal.SIGINT)
            if previous is self._over or _block_of(previous) is not None:
                self._previous = previous
                try:
                    signal.signal(signal.SIGINT, self._note)
                except ValueError:
                    # Only the main interpreter's own main thread may set handlers. ``threading``
                    # takes another for it in a sub-interpreter, and in a program that embeds Python
                    # and first imports ``threading`` elsewhere.
                    self._previous = None
        return self._interrupted

    def __exit__(self, error: object, *_: object) -> None:
        previous = self._previous
        if previous is not None:
            signal.signal(signal.SIGINT, previous)
        if self._is_interrupted and error is None and self._on_interrupt is None:
            previous(signal.SIGINT, None)

    def _interrupted(self) -> bool:
        return self._is_interrupted

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_interrupted and self._second_raises:
            # Once: what cleans up after it is not interrupted again.
            self._second_raises = False
            if self._on_interrupt is not None:
                # Here, for it may come when the earlier handler is about to be restored.
                previous, self._previous = self._previous, None
                signal.signal(signal.SIGINT, previous)
            raise KeyboardInterrupt
        self._is_interrupted = True
        if self._on_interrupt is not None:
            self._on_interrupt()


def gets_interrupts() -> bool:
    """Return whether Ctrl-C is raised in this thread."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def second_interrupt_raises() -> Iterator[None]:
    """Inside, let one Ctrl-C raise KeyboardInterrupt at once if a ``DeferredInterrupt`` around it
    has noted one: for what may never return, such as a caller's own function."""
    block = None
    if gets_interrupts():
        block = _block_of(signal.getsignal(signal.SIGINT))
    if block is None or block._on_interrupt is not None:
        yield
        return
    block._second_raises = True
    try:
        yield
    finally:
        block._second_raises = False


def _block_of(handler: Any) -> DeferredInterrupt | None:
    """The block whose handler it is."""
    owner = getattr(handler, "__self__", None)
    return owner if isinstance(owner, DeferredInterrupt) else None
