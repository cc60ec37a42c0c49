"""What a thread makes is unwanted once the task that asked for it has been cancelled."""

from __future__ import annotations

import asyncio
import threading

import pytest

from localgen._util.wanted import Unwanted, check_wanted, run_in_thread, wanted_while

SECONDS = 60


def test_nothing_is_unwanted_unless_somebody_says_so() -> None:
    check_wanted()
    with wanted_while(lambda: False), pytest.raises(Unwanted):
        check_wanted()
    check_wanted()


def test_a_task_that_is_cancelled_makes_its_work_unwanted() -> None:
    begun, over = threading.Event(), threading.Event()
    ends: list[type[BaseException] | None] = []

    def work() -> None:
        begun.set()
        try:
            while not over.wait(0.001):
                check_wanted()
        except BaseException as error:
            ends.append(type(error))
            over.set()

    async def main() -> None:
        task = asyncio.create_task(run_in_thread(None, work))
        while not begun.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await run_in_thread(None, over.wait, SECONDS)
        assert await run_in_thread(None, lambda: 7) == 7

    asyncio.run(main())
    assert ends == [Unwanted]
