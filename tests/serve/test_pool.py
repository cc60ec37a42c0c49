"""Models loaded at need and unloaded for room: a loader of fakes, in one event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from localgen.errors import NotEnoughMemoryError
from localgen.serve.pool import ModelPool
from localgen.serve.refusals import Refusal
from localgen.serve.room import Room
from localgen.serve.served_model import ServedModel

A, B, C = (ServedModel(names=(name,), source=name) for name in "abc")


class FakeModel:
    def __init__(self, name: str, loader: Loader) -> None:
        self.name = name
        self._loader = loader

    def close(self) -> None:
        self._loader.events.append(f"-{self.name}")
        self._loader.n_loaded -= 1


class Loader:
    """Room for so many models; ``gate`` holds a load back, ``failures`` are raised first."""

    def __init__(self, n_fit: int = 10) -> None:
        self.n_fit = n_fit
        self.n_loaded = 0
        self.n_loading = 0
        self.events: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.failures: list[Exception] = []

    def __call__(self, model: ServedModel, note: Callable[[float], object]) -> Any:
        assert not self.n_loading, "two loads at a time"
        self.n_loading += 1
        try:
            note(0.5)
            assert self.gate.wait(60)
            note(1.0)
            if self.failures:
                raise self.failures.pop()
            if self.n_loaded >= self.n_fit:
                raise NotEnoughMemoryError("/secret/path does not fit", 5_000_000, 3_000_000)
        finally:
            self.n_loading -= 1
        self.n_loaded += 1
        self.events.append(f"+{model.name}")
        return FakeModel(model.name, self)


class RoomOfTen(Room):
    def __init__(self, n_bytes: int = 10) -> None:
        self.n_bytes = n_bytes

    def check(self, wanted: ServedModel, n_bytes_loaded: int) -> None:
        if wanted.n_bytes + n_bytes_loaded > self.n_bytes:
            left = self.n_bytes - n_bytes_loaded
            raise NotEnoughMemoryError("no room", wanted.n_bytes, left)

    def most_for(self, error: NotEnoughMemoryError, n_bytes_in_use: int) -> int:
        return self.n_bytes - n_bytes_in_use


def run(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), 60))


async def use(pool: ModelPool, name: str) -> str:
    async with pool.use(name) as model:
        return model.name  # type: ignore[attr-defined]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


@pytest.fixture
def loader() -> Iterator[Loader]:
    found = Loader()
    yield found
    found.gate.set()


def test_a_model_is_loaded_once_for_all_who_ask(loader: Loader) -> None:
    async def main() -> None:
        pool = ModelPool([A, B], loader)
        assert pool.state(A) == "unloaded"
        assert await asyncio.gather(*(use(pool, "a") for _ in range(5))) == ["a"] * 5
        assert await use(pool, "a") == "a"
        assert loader.events == ["+a"]
        assert pool.state(A) == "loaded"
        assert pool.state(B) == "unloaded"
        await pool.close()
        assert loader.events == ["+a", "-a"]

    run(main)


def test_loads_of_two_models_take_turns(loader: Loader) -> None:
    async def main() -> None:
        pool = ModelPool([A, B], loader)
        assert tuple(await asyncio.gather(use(pool, "a"), use(pool, "b"))) == ("a", "b")

    run(main)


def test_a_failed_load_fails_for_those_who_asked_and_not_for_later_ones(loader: Loader) -> None:
    async def main() -> None:
        pool = ModelPool([A], loader)
        loader.failures = [OSError("broken")]
        ends = await asyncio.gather(use(pool, "a"), use(pool, "a"), return_exceptions=True)
        assert [type(end) for end in ends] == [OSError, OSError]
        assert await use(pool, "a") == "a"

    run(main)


def test_whoever_goes_away_does_not_end_the_load_for_others(loader: Loader) -> None:
    async def main() -> None:
        pool = ModelPool([A], loader)
        loader.gate.clear()
        leaving, staying = (asyncio.create_task(use(pool, "a")) for _ in range(2))
        await until(lambda: pool.progress(A) == 0.5)
        assert pool.state(A) == "loading"
        leaving.cancel()
        await asyncio.wait([leaving])
        loader.gate.set()
        assert await staying == "a"

    run(main)


def test_the_least_recently_used_model_makes_room(loader: Loader) -> None:
    loader.n_fit = 2

    async def main() -> None:
        pool = ModelPool([A, B, C], loader)
        for name in "abac":
            await use(pool, name)
        assert loader.events == ["+a", "+b", "-b", "+c"]

    run(main)


def test_a_model_in_use_is_never_unloaded_and_what_is_missing_is_told(loader: Loader) -> None:
    loader.n_fit = 2

    async def main() -> None:
        pool = ModelPool([A, B, C], loader)
        async with pool.use("a"), pool.use("b"):
            with pytest.raises(Refusal, match="5 MB of memory and 3 MB are available") as caught:
                await use(pool, "c")
        assert caught.value.status == 503
        assert "a, b cannot be unloaded while in use" in str(caught.value)
        assert "/secret" not in str(caught.value)
        assert await use(pool, "c") == "c"
        assert loader.events == ["+a", "+b", "-a", "+c"] or loader.events[2] == "-b"

    run(main)


def test_what_loaded_models_hold_is_counted_before_another_is_loaded(loader: Loader) -> None:
    models = [ServedModel(names=(name,), source=name, n_bytes=4) for name in "abc"]

    async def main() -> None:
        pool = ModelPool(models, loader, room=RoomOfTen())
        for name in "abc":
            await use(pool, name)
        assert loader.events == ["+a", "+b", "-a", "+c"]

    run(main)


def test_a_model_that_can_never_fit_unloads_nothing(loader: Loader) -> None:
    """It made all others load again, for nothing."""
    sizes = {"a": 4_000_000, "b": 4_000_000, "huge": 11_000_000, "large": 7_000_000}
    models = [ServedModel(names=(name,), source=name, n_bytes=n) for name, n in sizes.items()]

    async def main() -> None:
        pool = ModelPool(models, loader, room=RoomOfTen(10_000_000))
        await use(pool, "a")
        async with pool.use("b"):
            with pytest.raises(Refusal) as caught:
                await use(pool, "large")
            assert caught.value.retry_after == 10
            assert "7 MB of memory and 6 MB would be available" in str(caught.value)
            assert "b cannot be unloaded while in use" in str(caught.value)
        with pytest.raises(Refusal) as caught:
            await use(pool, "huge")
        assert caught.value.code == "no_room_for_model"
        assert caught.value.retry_after is None
        assert "11 MB of memory and 10 MB would be available" in str(caught.value)
        assert loader.events == ["+a", "+b"]
        await use(pool, "large")
        assert loader.events == ["+a", "+b", "-a", "-b", "+large"]

    run(main)


def test_no_more_models_than_allowed_are_loaded(loader: Loader) -> None:
    async def main() -> None:
        pool = ModelPool([A, B], loader, max_loaded=1)
        async with pool.use("a"):
            with pytest.raises(Refusal, match="keeps no more than 1 model in memory"):
                await use(pool, "b")
        await use(pool, "b")
        assert loader.events == ["+a", "-a", "+b"]

    run(main)


def test_an_idle_model_is_unloaded_and_one_in_use_is_not(loader: Loader) -> None:
    async def main() -> None:
        pool = ModelPool([A, B], loader, idle_unload=0.01)
        async with pool.use("a"):
            await use(pool, "b")
            await until(lambda: "-b" in loader.events)
            assert loader.events == ["+a", "+b", "-b"]
        await until(lambda: "-a" in loader.events)
        assert await use(pool, "a") == "a"

    run(main)


def test_a_pool_that_closes_ends_a_load_and_takes_no_request(loader: Loader) -> None:
    async def main() -> None:
        pool = ModelPool([A], loader)
        loader.gate.clear()
        waiting = asyncio.create_task(use(pool, "a"))
        await until(lambda: pool.progress(A) == 0.5)
        closing = asyncio.create_task(pool.close())
        await asyncio.sleep(0)
        loader.gate.set()
        await closing
        for refused in (waiting, asyncio.create_task(use(pool, "a"))):
            with pytest.raises(Refusal) as caught:
                await refused
            assert caught.value.code == "server_stopping"
        assert loader.events == []

    run(main)
