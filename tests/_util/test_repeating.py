"""A function is called again and again while a block runs; events, not times, decide."""

from __future__ import annotations

import threading

import pytest

from localgen._util.repeating import repeating


def test_it_is_called_until_the_block_ends_and_not_after_it() -> None:
    calls: list[int] = []
    twice = threading.Event()

    def call() -> None:
        calls.append(1)
        if len(calls) >= 2:
            twice.set()

    with repeating(0.001, call):
        assert twice.wait(60)
    n_calls = len(calls)
    assert not any(each.name == "repeating" for each in threading.enumerate())
    assert len(calls) == n_calls


def test_it_ends_with_the_blocks_exception_too() -> None:
    with pytest.raises(KeyError), repeating(3600, lambda: None):
        raise KeyError
    assert not any(each.name == "repeating" for each in threading.enumerate())
