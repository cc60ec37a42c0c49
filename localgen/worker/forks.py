"""Lets a forked process close its copies of the pipes to workers, which would keep them alive."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

_in_child: list[WeakMethod[Callable[[], Any]]] = []


def call_in_forks(method: Callable[[], Any]) -> None:
    """Have forked processes call a method of an object, for as long as that lives."""
    _register()
    _in_child[:] = [each for each in _in_child if each() is not None]
    _in_child.append(WeakMethod(method))


@functools.cache
def _register() -> None:
    if sys.platform != "win32":
        os.register_at_fork(after_in_child=_call_all)


def _call_all() -> None:
    for each in _in_child:
        method = each()
        if method is not None:
            method()
