"""Lets no forked process hold pipes of workers, which would keep them alive, or seem to."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

# Held while a worker is started: a process that was forked then would keep the other ends of its
# pipes, which have no owner here to close them. Only its owner can release it: Ctrl-C may end the
# waiting for it.
starting = threading.RLock()
_in_child: list[WeakMethod[Callable[[], Any]]] = []


def call_in_forks(method: Callable[[], Any]) -> None:
    """Have forked processes call a method of an object, for as long as that lives."""
    _register()
    _in_child[:] = [each for each in _in_child if each() is not None]
    _in_child.append(WeakMethod(method))


@functools.cache
def _register() -> None:
    if sys.platform != "win32":
        os.register_at_fork(
            before=starting.acquire, after_in_parent=_release, after_in_child=_call_all
        )


def _release() -> None:
    with contextlib.suppress(RuntimeError):
        starting.release()


def _call_all() -> None:
    _release()
    for each in _in_child:
        method = each()
        if method is not None:
            method()
