"""The latest results of a computation by key: each is made once, and nobody waits for another's."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Future
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Kept(Generic[Result]):
    """Keeps up to ``most`` results, and drops the one that was used longest ago; usable from any
    thread.

    An error is raised in each thread that waits for the result, and is not kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._futures: OrderedDict[Hashable, Future[Result]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Result]) -> Result:
        """Return the result of ``make()``, or what another call for the key made."""
        while True:
            with self._lock:
                kept = self._futures.pop(key, None)
                future = self._futures[key] = kept or Future()
                while len(self._futures) > self._most:
                    self._futures.popitem(last=False)
            if kept is None:
                self._make(key, future, make)
            try:
                return future.result()
            except CancelledError:  # the thread that made it was interrupted
                continue

    def _make(self, key: Hashable, future: Future[Result], make: Callable[[], Result]) -> None:
        try:
            future.set_result(make())
        except BaseException as error:
            with self._lock:
                if self._futures.get(key) is future:
                    del self._futures[key]
            if not isinstance(error, Exception):
                future.cancel()
                raise
            future.set_exception(error)
