"""What must be true of a model's engine between any two calls; it reads the engine's insides."""

from __future__ import annotations

from localgen import LocalModel
from localgen.engine.kv_cache import KvCache
from localgen.engine.sequence import CachedSequence, Sequence
from tests.fakes import FakeBackend, engine_of


def kv_cache_of(model: LocalModel) -> KvCache:
    return engine_of(model).kv_cache


def pinned_entries(model: LocalModel) -> list[CachedSequence]:
    return [entry for entry in kv_cache_of(model).entries if entry.is_pinned]


def check_slots(model: LocalModel) -> None:
    """Rows and entries name each other's slots rightly, and the scheduler runs just those rows."""
    cache, backend = kv_cache_of(model), model._backend
    rows, entries = cache._slots.rows, cache._slots.cached
    assert len(rows) == len(entries) == backend.n_slots <= model.config.max_sequences
    assert not any(row and entry for row, entry in zip(rows, entries, strict=True))
    assert all(row.seq_id == slot for slot, row in enumerate(rows) if row)
    assert all(entry.seq_id == slot for slot, entry in enumerate(entries) if entry)
    scheduler = engine_of(model)._scheduler
    assert scheduler.running == [row for row in rows if row]
    if not scheduler.waiting:  # else the next step fills the holes
        _check_consecutive(cache)


def _check_consecutive(cache: KvCache) -> None:
    """Holes between running rows are closed, unless only pinned entries are free to be moved."""
    running = [slot for slot, row in enumerate(cache._slots.rows) if row]
    if running and running[-1] - running[0] >= len(running):
        assert len(running) + cache.n_pinned == len(cache._slots.rows)


def check_contents(model: LocalModel) -> None:
    """A slot holds just what its row or entry says, and nothing if it has none.

    Of a FakeBackend these are tokens; of llama.cpp it is known how many.
    """
    cache, backend = kv_cache_of(model), model._backend
    if cache._epoch != backend.n_cache_resets:
        return  # all was lost, which is noticed at the next step
    slots = cache._slots
    for slot, (row, entry) in enumerate(zip(slots.rows, slots.entries, strict=True)):
        claimed = _claimed(row, entry)
        if isinstance(backend, FakeBackend):
            assert backend.kv[slot] == claimed, f"slot {slot}"
        else:
            last = backend._llama.llama_memory_seq_pos_max(backend._context.memory, slot)
            assert last + 1 == len(claimed), f"slot {slot}"
    if cache._shared is not None:
        assert backend.cells_fit(backend.n_ctx_seq)
        assert cache._shared.n_taken <= backend.n_ctx_seq
    else:
        assert backend.n_slots <= max(1, backend.n_slots_that_fit(max(1, backend.n_ctx_seq)))


def _claimed(row: Sequence | None, entry: CachedSequence | None) -> list[int]:
    if row is not None:
        return row.tokens[: row.n_kv].tolist()
    return [] if entry is None else entry.token_ids.tolist()


def check_idle(model: LocalModel) -> None:
    """No request is left, no row runs or waits, and every slot is free."""
    loop = engine_of(model)
    with model._driver.alone():
        pass  # the thread that drives for tasks wakes them just before it lets go
    assert loop.idle
    assert not loop._request_of
    assert not loop._deadlines
    assert not loop._scheduler.running
    assert not loop._scheduler.waiting
    assert loop.kv_cache.n_running == 0
    assert model._driver._driver is None
    check_slots(model)
