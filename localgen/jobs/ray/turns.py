"""Lets so many rows run as can run together: the clock of ``max_time`` runs while a row waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Holds rows back until one of ``n_slots`` turns is free."""

    def __init__(self, n_slots: int) -> None:
        self._n_slots = n_slots
        self._free = asyncio.Semaphore(n_slots)
        self._waits_for_all = asyncio.Lock()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Take a turn for the block."""
        async with self._free:
            yield

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Take all turns for the block."""
        async with self._waits_for_all:
            for _ in range(self._n_slots):
                await self._free.acquire()
            try:
                yield
            finally:
                for _ in range(self._n_slots):
                    self._free.release()
