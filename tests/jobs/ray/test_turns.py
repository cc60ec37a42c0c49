"""Turns: so many rows at a time, and one that has all of them."""

from __future__ import annotations

import asyncio

from localgen.jobs.ray.turns import Turns


def test_no_more_rows_run_than_there_are_turns_and_one_alone_has_them_all() -> None:
    running: set[int] = set()
    most: dict[bool, int] = {True: 0, False: 0}

    async def row(turns: Turns, number: int, *, is_alone: bool) -> None:
        async with turns.alone() if is_alone else turns.one():
            running.add(number)
            most[is_alone] = max(most[is_alone], len(running))
            for _ in range(3):
                await asyncio.sleep(0)
            most[is_alone] = max(most[is_alone], len(running))
            running.remove(number)

    async def run_all() -> None:
        turns = Turns(3)
        await asyncio.gather(*(row(turns, n, is_alone=n % 4 == 0) for n in range(20)))

    asyncio.run(asyncio.wait_for(run_all(), 60))
    assert most == {False: 3, True: 1}
