"""Models that are still open when Python ends: closed before anything of theirs is freed."""

from __future__ import annotations

import atexit
import functools
from typing import Any
from weakref import ref

from localgen.errors import CLOSED, ClosedError
from localgen.generation.driver import Driver

# A daemon thread's step takes less, and one in which a caller's function waits may take for ever.
_SECONDS = 5.0
# Plain references: what a WeakKeyDictionary does in Python when a key dies can lose a Ctrl-C.
_open: list[tuple[ref[Driver], ref[Any]]] = []


def close_at_exit(turns: Driver, backend: Any) -> None:
    """Close ``backend`` when Python ends, if it is open then.

    Daemon threads still run at that time: what they generate ends first. Where that takes too
    long, nothing is freed.
    """
    _register()
    _open[:] = [pair for pair in _open if pair[0]() is not None]
    _open.append((ref(turns), ref(backend)))


@functools.cache
def _register() -> None:
    # Such functions run in reverse order: as the first backend is there, before its finalizer.
    atexit.register(_close_all)


def _close_all() -> None:
    for turns, backend in [(turns(), backend()) for turns, backend in _open]:
        if turns is None or backend is None:
            continue
        if backend.is_forked:
            backend.close()
        elif not turns.close_within(_SECONDS, ClosedError(CLOSED), backend.close):
            backend.leave()
