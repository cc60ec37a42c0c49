"""What must be true of a model's engine between any two calls; it reads the engine's insides."""

from __future__ import annotations

from localgen import LocalModel
from localgen.engine.kv_cache import KvCache
from localgen.engine.sequence import CachedSequence, Sequence
from localgen.engine.slots import Item
from tests.fakes import FakeBackend, engine_of


def kv_cache_of(model: LocalModel) -> KvCache:
    return engine_of(model).kv_cache


def pinned(model: LocalModel) -> list[CachedSequence]:
    return [cached for cached in kv_cache_of(model).cached if cached.is_pinned]


def check_slots(model: LocalModel) -> None:
    """What is held names the seq_id that holds it, and the scheduler runs just those sequences."""
    cache, backend = kv_cache_of(model), model._backend
    items = cache._slots.items
    assert len(items) == backend.n_slots <= model.config.max_sequences
    assert all(item.seq_id == seq_id for seq_id, item in enumerate(items) if item is not None)
    scheduler = engine_of(model)._scheduler
    assert scheduler.running == cache._slots.running
    if not scheduler.waiting:  # else the next step fills the holes
        _check_consecutive(cache)


def _check_consecutive(cache: KvCache) -> None:
    """Holes between running sequences are closed, unless only pinned ones could move there."""
    items = cache._slots.items
    running = [seq_id for seq_id, item in enumerate(items) if isinstance(item, Sequence)]
    if running and running[-1] - running[0] >= len(running):
        assert len(running) + cache.n_pinned == len(items)


def check_contents(model: LocalModel) -> None:
    """A seq_id holds just what its item says, and nothing if it has none.

    Of a FakeBackend these are tokens; of llama.cpp it is known how many.
    """
    cache, backend = kv_cache_of(model), model._backend
    if cache._n_resets != backend.n_cache_resets:
        return  # all was lost, which is noticed at the next step
    items = cache._slots.items
    for seq_id, item in enumerate(items):
        claimed = _claimed(item)
        if isinstance(backend, FakeBackend):
            assert backend.kv[seq_id] == claimed, f"seq_id {seq_id}"
        else:
            last = backend._llama.llama_memory_seq_pos_max(backend._context.memory, seq_id)
            assert last + 1 == len(claimed), f"seq_id {seq_id}"
    if cache._shared is not None:
        assert backend.cells_fit(backend.n_ctx_seq)
        assert cache._shared.n_taken(items) <= backend.n_ctx_seq
    else:
        assert backend.n_slots <= max(1, backend.n_slots_that_fit(max(1, backend.n_ctx_seq)))


def _claimed(item: Item | None) -> list[int]:
    if isinstance(item, Sequence):
        return item.tokens[: item.n_kv].tolist()
    return [] if item is None else item.token_ids.tolist()


def check_idle(model: LocalModel) -> None:
    """No request is left, nothing runs or waits, and every seq_id is free."""
    engine = engine_of(model)
    with model._driver.alone():
        pass  # the thread that drives for tasks wakes them just before it lets go
    assert engine.idle
    assert not engine._request_of
    assert not engine._deadlines
    assert not engine._scheduler.running
    assert not engine._scheduler.waiting
    assert engine.kv_cache.n_running == 0
    assert model._driver._driver is None
    check_slots(model)
