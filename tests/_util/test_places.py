"""So many threads do something at a time, and one that nobody waits for takes no place."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from localgen._util.places import Places
from localgen._util.wanted import Unwanted, wanted_while

SECONDS = 60


def test_no_more_threads_than_places_are_inside() -> None:
    places, lock = Places(2), threading.Lock()
    inside, most = 0, 0
    full = threading.Barrier(2)

    def work() -> None:
        nonlocal inside, most
        with places.taken():
            with lock:
                inside += 1
                most = max(most, inside)
            full.wait(SECONDS)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(6) as threads:
        for each in [threads.submit(work) for _ in range(6)]:
            each.result(SECONDS)
    assert most == 2


def test_whoever_is_unwanted_gives_its_wait_up_and_takes_no_place() -> None:
    places, wanted = Places(1), True

    def wait() -> None:
        with wanted_while(lambda: wanted), places.taken():
            raise AssertionError("it was let in")

    with ThreadPoolExecutor(1) as threads:
        with places.taken():
            waiting = threads.submit(wait)
            wanted = False
            with pytest.raises(Unwanted):
                waiting.result(SECONDS)
        with pytest.raises(Unwanted):
            threads.submit(wait).result(SECONDS)
    with places.taken():
        pass


def test_a_fork_has_all_places() -> None:
    places = Places(1)
    with places.taken():
        places.reset()
        with places.taken():
            pass
    with places.taken():
        pass
