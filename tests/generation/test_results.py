"""Where the time of a call went: its parts add up to what the caller waited.

The clock is set forward here by what happens, so nothing depends on the machine.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from localgen import Stats
from tests.fakes import fake_model

SECONDS = 20  # the end of a test that would hang
LONG = 1000.0
PARTS = ("prefill", "decode", "sample", "text", "overhead", "wait")


class Clock:
    """time.perf_counter(), and what was added to it."""

    def __init__(self) -> None:
        self._real = time.perf_counter
        self.ahead = 0.0

    def __call__(self) -> float:
        return self._real() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


def check(stats: Stats) -> None:
    """The parts add up, and the first token came within the whole."""
    total = sum(getattr(stats, f"{part}_seconds") for part in PARTS)
    assert total == pytest.approx(stats.wall_seconds)
    assert stats.ttft is not None
    assert stats.ttft <= stats.wall_seconds


def blocked(model: Any, call: Any, pool: ThreadPoolExecutor) -> tuple[Any, threading.Event]:
    """Start a call in another thread whose first pass waits for an event."""
    inside, gate = threading.Event(), threading.Event()

    def wait_once() -> None:
        model.backend.on_decode = lambda: None
        inside.set()
        assert gate.wait(SECONDS)

    model.backend.on_decode = wait_once
    future = pool.submit(call)
    assert inside.wait(SECONDS)
    return future, gate


@pytest.mark.parametrize("asks", ["complete", "acomplete", "generate", "stream"])
def test_waiting_for_another_thread_s_score(asks: str, clock: Clock) -> None:
    """Regression: a call that waited 17.8 s said that it took 0.09 s."""
    model = fake_model()

    def ask() -> Any:
        if asks == "complete":
            return model.complete("abc", max_new_tokens=3).stats
        if asks == "acomplete":
            return asyncio.run(model.acomplete("abc", max_new_tokens=3)).stats
        if asks == "stream":
            stream = model.stream("abc", max_new_tokens=3)
            assert len(list(stream)) == 3
            return stream.completion.stats
        out = model.generate([[65]], max_new_tokens=3, return_dict_in_generate=True)
        return out.stats[0]

    with ThreadPoolExecutor(2) as pool:
        _, gate = blocked(model, lambda: model.score("a text"), pool)
        asleep = threading.Event()
        changed = model._driver._changed
        wait = changed.wait

        def wait_and_tell(*args: Any) -> bool:
            asleep.set()
            return wait(*args)

        changed.wait = wait_and_tell  # type: ignore[method-assign, assignment]
        future = pool.submit(ask)
        assert asleep.wait(SECONDS)
        clock.ahead = LONG
        gate.set()
        stats = future.result(SECONDS)
    check(stats)
    assert stats.wait_seconds > LONG / 2
    assert stats.wall_seconds - stats.wait_seconds < LONG / 2


def test_waiting_for_a_place(clock: Clock) -> None:
    """Steps in which only others take part are no decoding of one's own."""
    model = fake_model(max_sequences=1)
    with ThreadPoolExecutor(2) as pool:
        future, gate = blocked(model, lambda: model.complete("abc", max_new_tokens=30), pool)
        waits = pool.submit(lambda: model.complete("xyz", max_new_tokens=3))
        while not model._driver._n_asleep:
            pass
        n_passes = 0

        def slow() -> None:
            nonlocal n_passes
            n_passes += 1
            if n_passes < 5:
                clock.ahead += LONG

        model.backend.on_decode = slow
        gate.set()
        first, second = future.result(SECONDS).stats, waits.result(SECONDS).stats
    for stats in (first, second):
        check(stats)
    assert first.decode_seconds > 3 * LONG
    assert second.wait_seconds > 3 * LONG
    assert second.decode_seconds < LONG


def test_a_slow_reader_is_no_part_of_a_stream_s_time(clock: Clock) -> None:
    """Before its first piece, between two of them, and after the last."""
    stream = fake_model().stream("abc", max_new_tokens=3)
    clock.ahead += LONG
    for _ in stream:
        clock.ahead += LONG
    stats = stream.completion.stats
    check(stats)
    assert stats.wall_seconds < LONG
    for _, done in fake_model().complete_iter(["a", "bc"], max_new_tokens=3):
        clock.ahead += LONG
        check(done.stats)
        assert done.stats.wall_seconds < LONG


def test_a_slow_streamer_is_no_part_of_a_call_s_time(clock: Clock) -> None:
    """Nor is it waiting for other calls."""

    class Streamer:
        def put(self, value: Any) -> None:
            clock.ahead += LONG

        def end(self) -> None:
            clock.ahead += LONG

    out = fake_model().generate(
        [[65]], max_new_tokens=3, streamer=Streamer(), return_dict_in_generate=True
    )
    assert out.stats[0].wall_seconds < LONG


def test_the_rows_of_a_call_have_the_same_seconds(clock: Clock) -> None:
    """They are the call's."""
    done = fake_model().complete(["a", "bc", "def"], max_new_tokens=3)
    assert len({each.stats.wall_seconds for each in done}) == 1
