"""The latest results of a computation by key: each is made once, and nobody waits for another's."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent import futures
from typing import Generic, TypeVar

from localgen._util.wanted import SECONDS_BETWEEN_LOOKS, check_wanted

Result = TypeVar("Result")


class Kept(Generic[Result]):
    """Keeps up to ``most`` results, and drops the one that was used longest ago; usable from any
    thread.

    most_size: of all of them together; the latest is kept whatever its size is. An error is raised
    in each thread that waits for the result, and is not kept.
    """

    def __init__(self, most: int, most_size: float = math.inf) -> None:
        self._most = most
        self._most_size = most_size
        self._kept: OrderedDict[Hashable, tuple[futures.Future[Result], float]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Result], size: float = 0.0) -> Result:
        """Return the result of ``make()``, or what another call for the key made.

        Raises Unwanted while it waits for another call and nobody wants the result any more.
        """
        while True:
            with self._lock:
                kept = self._kept.pop(key, None)
                future, _ = self._kept[key] = kept or (futures.Future(), size)
                self._drop()
            if kept is None:
                self._make(key, future, make)
            try:
                return _result_if_wanted(future)
            except futures.CancelledError:  # the thread that made it was interrupted
                continue

    def _drop(self) -> None:
        """Drop results until the others are few and small enough."""
        size = sum(each for _, each in self._kept.values())
        while len(self._kept) > 1 and (len(self._kept) > self._most or size > self._most_size):
            _, (_, dropped) = self._kept.popitem(last=False)
            size -= dropped

    def _make(
        self, key: Hashable, future: futures.Future[Result], make: Callable[[], Result]
    ) -> None:
        try:
            future.set_result(make())
        except BaseException as error:
            with self._lock:
                if key in self._kept and self._kept[key][0] is future:
                    del self._kept[key]
            if not isinstance(error, Exception):
                future.cancel()
                raise
            future.set_exception(error)


def _result_if_wanted(future: futures.Future[Result]) -> Result:
    """Return a future's result. Raises Unwanted if nobody waits for it any more."""
    while True:
        try:
            return future.result(SECONDS_BETWEEN_LOOKS)
        except futures.TimeoutError:
            if future.done():  # meanwhile, or with such an error of its own
                return future.result()
            check_wanted()
