"""Collects exceptions raised in Python callbacks while C runs, to raise them once C has returned.

ctypes passes such an exception to ``sys.unraisablehook`` and continues. A ``try`` inside the
callback does not help: Ctrl-C can arrive at the callback's first instruction, before any ``try``.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
_errors_of_thread: dict[int, list[BaseException]] = {}
_previous_hook: Callable[[Any], object] = sys.__unraisablehook__


@contextmanager
def collected_errors() -> Iterator[list[BaseException]]:
    """Yield a list to which this thread's C callbacks add what they raise inside the block."""
    thread = threading.get_ident()
    errors: list[BaseException] = []
    _register(thread, errors)
    try:
        yield errors
    finally:
        _unregister(thread)


def _register(thread: int, errors: list[BaseException]) -> None:
    global _previous_hook  # noqa: PLW0603  # the hook itself is global
    with _lock:
        if sys.unraisablehook is not _collect:
            _previous_hook = sys.unraisablehook
            sys.unraisablehook = _collect
        _errors_of_thread[thread] = errors


def _unregister(thread: int) -> None:
    with _lock:
        _errors_of_thread.pop(thread, None)
        if not _errors_of_thread and sys.unraisablehook is _collect:
            sys.unraisablehook = _previous_hook


def _collect(unraisable: Any) -> None:
    errors = _errors_of_thread.get(threading.get_ident())
    from_callback = "ctypes callback function" in (unraisable.err_msg or "")
    if errors is not None and from_callback and unraisable.exc_value is not None:
        errors.append(unraisable.exc_value)
    else:
        _previous_hook(unraisable)
