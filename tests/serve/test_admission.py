"""Turns of requests in one event loop, without HTTP; nothing here waits for real time to pass."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from localgen.serve import admission as module
from localgen.serve.admission import Admission, Turn
from localgen.serve.refusals import Refusal


def request(client: str = "a") -> Any:
    return SimpleNamespace(scope={"client": (client, 1)})


class Holder:
    """A request that holds its turn until it is released."""

    def __init__(self, admission: Admission, client: str = "a", n_rows: int = 1) -> None:
        self.released = asyncio.Event()
        self.turn: Turn | None = None
        self.task = asyncio.create_task(self._hold(admission, client, n_rows))

    async def _hold(self, admission: Admission, client: str, n_rows: int) -> str:
        async with admission.turn(request(client), n_rows) as self.turn:
            await self.released.wait()
        return "done"

    async def release(self) -> str:
        self.released.set()
        return await self.task


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


def run(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_request_beyond_the_queue_is_429_with_a_time_to_retry() -> None:
    async def main() -> None:
        admission = Admission(1, 1, None)
        running, waiting = Holder(admission), Holder(admission)
        await settle()
        with pytest.raises(Refusal) as caught:
            async with admission.turn(request()):
                pass
        assert caught.value.status == 429
        assert caught.value.code == "rate_limit_exceeded"
        assert int(caught.value.headers()["retry-after"]) >= 1
        assert await running.release() == await waiting.release() == "done"
        assert admission.n_running == admission.n_waiting == 0

    run(main)


def test_the_time_to_retry_follows_the_measured_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)

    async def main() -> None:
        nonlocal now
        admission = Admission(2, 10, None)
        first = Holder(admission)
        await settle()
        now += 8.0
        await first.release()
        assert admission.retry_after() == 1.0  # nobody is there
        holders = [Holder(admission) for _ in range(6)]
        await settle()
        assert admission.retry_after() == pytest.approx(6 * 8.0 / 2)
        for holder in holders:
            await holder.release()

    run(main)


def test_a_client_that_leaves_while_it_waits_frees_its_place() -> None:
    async def main() -> None:
        admission = Admission(1, 1, None)
        running, leaving = Holder(admission), Holder(admission)
        await settle()
        leaving.task.cancel()
        await settle()
        assert leaving.task.cancelled()
        next_one = Holder(admission)
        await settle()
        assert admission.n_waiting == 1
        await running.release()
        assert await next_one.release() == "done"

    run(main)


def test_a_client_that_leaves_at_the_moment_of_its_turn_frees_its_place() -> None:
    async def main() -> None:
        admission = Admission(1, 2, None)
        running, leaving, next_one = (Holder(admission) for _ in range(3))
        await settle()
        running.released.set()
        await running.task  # its place is given on, and the next one has not run yet
        leaving.task.cancel()
        await settle()
        assert leaving.task.cancelled()
        assert await next_one.release() == "done"
        assert admission.n_running == 0

    run(main)


def test_one_that_waits_beyond_its_deadline_is_503() -> None:
    async def main() -> None:
        admission = Admission(1, 5, 0.01)
        running = Holder(admission)
        await settle()
        waiting = Holder(admission)
        with pytest.raises(Refusal) as caught:
            await waiting.task
        assert caught.value.status == 503
        assert caught.value.code == "request_timeout"
        await running.release()
        assert admission.n_running == admission.n_waiting == 0

    run(main)


def test_one_that_does_not_end_after_its_deadline_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.0)

    async def main() -> None:
        admission = Admission(1, 5, 0.01)
        holder = Holder(admission)
        with pytest.raises(Refusal) as caught:
            await holder.task
        assert caught.value.code == "request_timeout"
        assert holder.turn is not None
        assert holder.turn.seconds_left() == 1e-3
        assert admission.n_running == 0

    run(main)


def test_a_server_that_stops_refuses_new_and_waiting_ones_and_lets_others_end() -> None:
    async def main() -> None:
        admission = Admission(1, 5, None)
        running, waiting = Holder(admission), Holder(admission)
        await settle()
        admission.stop()
        for refused in (waiting, Holder(admission)):
            with pytest.raises(Refusal) as caught:
                await refused.task
            assert caught.value.code == "server_stopping"
        assert await running.release() == "done"

    run(main)


def test_a_server_whose_time_is_up_cuts_those_that_run_with_a_typed_error() -> None:
    async def main() -> None:
        admission = Admission(2, 5, None)
        running = [Holder(admission), Holder(admission)]
        await settle()
        admission.cut()
        admission.cut()
        for holder in running:
            with pytest.raises(Refusal) as caught:
                await holder.task
            assert caught.value.code == "server_stopping"
        assert admission.n_running == 0

    run(main)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.integers(1, 3), st.integers(0, 6), st.sampled_from("cer")
        ),
        max_size=25,
    )
)
def test_whoever_comes_and_goes_none_is_lost_and_every_place_comes_back(
    steps: list[tuple[str, int, int, str]],
) -> None:
    """c: a client comes. e: one ends by itself. r: one goes away, wherever it stands."""

    async def main() -> None:
        admission = Admission(2, 3, None)
        holders: list[Holder] = []
        for client, n_rows, which, step in steps:
            if step == "c":
                holders.append(Holder(admission, client, n_rows))
            elif holders and step == "e":
                holders[which % len(holders)].released.set()
            elif holders:
                holders[which % len(holders)].task.cancel()
            for _ in range(which % 3):  # so that steps also meet half-way
                await asyncio.sleep(0)
            assert admission.n_running <= 2
            assert admission.n_waiting <= 3
        for holder in holders:
            holder.released.set()
        ends = await asyncio.gather(*(each.task for each in holders), return_exceptions=True)
        for end in ends:
            assert end == "done" or isinstance(end, Refusal | asyncio.CancelledError)
            assert not isinstance(end, Refusal) or end.status == 429
        assert admission.n_running == admission.n_waiting == admission.n_requests == 0

    run(main)
