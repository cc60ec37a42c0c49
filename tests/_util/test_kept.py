"""Each result is made once, whoever asks, and a slow one delays only those who want it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from localgen._util.kept import Kept
from localgen._util.wanted import Unwanted, wanted_while

SECONDS = 60


def test_other_results_are_made_while_one_takes_long() -> None:
    kept = Kept[str](4)
    begun, over = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert over.wait(SECONDS)
        return "slow"

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(kept.get, "a", slow)
        assert begun.wait(SECONDS)
        try:
            other = threads.submit(kept.get, "b", lambda: "quick")
            assert other.result(SECONDS / 4) == "quick"
        finally:
            over.set()
        assert first.result(SECONDS) == kept.get("a", lambda: "again") == "slow"


def test_the_result_that_was_used_longest_ago_is_dropped() -> None:
    kept = Kept[int](2)
    assert [kept.get(key, lambda: 1) for key in "aba"] == [1, 1, 1]
    kept.get("c", lambda: 1)
    assert [kept.get(key, lambda: 2) for key in "ab"] == [1, 2]


def test_an_error_is_raised_and_not_kept() -> None:
    kept = Kept[int](2)
    with pytest.raises(ZeroDivisionError):
        kept.get("a", lambda: 1 // 0)
    assert kept.get("a", lambda: 3) == 3


def test_an_interrupt_is_raised_where_it_came_and_others_make_the_result_themselves() -> None:
    kept = Kept[int](2)
    begun, over = threading.Event(), threading.Event()

    def interrupted() -> int:
        begun.set()
        assert over.wait(SECONDS)
        raise KeyboardInterrupt

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(kept.get, "a", interrupted)
        assert begun.wait(SECONDS)
        second = threads.submit(kept.get, "a", lambda: 5)
        over.set()
        assert second.result(SECONDS) == 5
        with pytest.raises(KeyboardInterrupt):
            first.result(SECONDS)


def test_results_that_are_large_together_are_dropped_sooner() -> None:
    """Few compiled grammars took as much memory as the model."""
    kept = Kept[str](9, most_size=10)
    made: list[str] = []

    def get(key: str, size: float) -> None:
        kept.get(key, lambda: made.append(key) or key, size)  # type: ignore[func-returns-value]

    for key in "abc":
        get(key, 4)
    get("b", 4)
    get("c", 4)
    assert made == ["a", "b", "c"]
    get("a", 4)
    assert made == ["a", "b", "c", "a"]
    get("huge", 99)
    get("huge", 99)
    get("b", 4)
    assert made[4:] == ["huge", "b"]


def test_whoever_waits_for_a_result_that_nobody_wants_any_more_goes_on() -> None:
    """It held a thread for as long as another computed."""
    kept = Kept[str](4)
    begun, over, has_left = threading.Event(), threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert over.wait(SECONDS)
        return "slow"

    def wait() -> str:
        with wanted_while(lambda: not has_left.is_set()):
            return kept.get("a", lambda: "again")

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(kept.get, "a", slow)
        assert begun.wait(SECONDS)
        try:
            waiting = threads.submit(wait)
            has_left.set()
            with pytest.raises(Unwanted):
                waiting.result(SECONDS)
        finally:
            over.set()
        assert first.result(SECONDS) == "slow"


def test_a_result_that_its_maker_leaves_is_made_by_another() -> None:
    kept = Kept[str](4)

    def leave() -> str:
        raise Unwanted

    with pytest.raises(Unwanted):
        kept.get("a", leave)
    assert kept.get("a", lambda: "made") == "made"
