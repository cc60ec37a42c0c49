"""What must be true of a model's engine between two calls.

The only file of this folder that reads the engine's insides: the tests call it, and public methods.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from localgen import LocalModel
from localgen.engine.backend import Batch, Logits
from localgen.engine.kv_cache import KvCache
from localgen.engine.sequence import Sequence
from localgen.engine.slots import CachedSequence
from localgen.generation.prefix import Prefix
from tests.fakes import FakeBackend

# --- what tests ask for ---


def backend_of(model: LocalModel) -> Any:
    """The model's backend: a FakeBackend, or a LlamaBackend."""
    return model._backend


def is_idle(model: LocalModel) -> bool:
    """Return whether no request is left in the engine."""
    return model._loop.idle


def n_pinned(model: LocalModel) -> int:
    """Return how many cached sequences are pinned."""
    return _kv_cache(model).n_pinned


def n_cache_resets(model: LocalModel) -> int:
    """Return how often the backend lost all that it held."""
    return backend_of(model).epoch


def extended_ids(prefix: Prefix, text: str) -> list[int]:
    """Return the token ids that ``prefix.extend(text)`` pins, for a prefix made of token ids."""
    return list(prefix._with(text, split=False))


def forget_all(model: LocalModel) -> None:
    """Empty the KV cache, so that the next prompt is computed from its first token."""
    backend_of(model).forget()
    _kv_cache(model).forget()


def watch(model: LocalModel) -> None:
    """Give a LlamaBackend what a FakeBackend has for tests.

    ``n_decoded`` counts tokens, ``on_decode`` is called before each forward pass, and
    ``lose_all()`` loses what the KV cache holds.
    """
    backend = backend_of(model)
    decode = backend.decode
    backend.on_decode = lambda: None
    backend.n_decoded = 0

    def counted(batch: Batch, *args: Any) -> Logits:
        backend.on_decode()
        logits: Logits = decode(batch, *args)
        backend.n_decoded += len(batch.token_ids)
        return logits

    def lose_all() -> None:
        backend._context.lose_all()

    backend.decode, backend.lose_all = counted, lose_all


# --- invariants ---


def check_slots(model: LocalModel) -> None:
    """Sequences and cached sequences name their own slots, and the scheduler runs just those."""
    cache, backend = _kv_cache(model), backend_of(model)
    rows, entries = cache._slots.rows, cache._slots.entries
    assert len(rows) == len(entries) == backend.n_slots <= model.config.max_sequences
    assert not any(row and entry for row, entry in zip(rows, entries, strict=True))
    assert all(row.slot == slot for slot, row in enumerate(rows) if row)
    assert all(entry.slot == slot for slot, entry in enumerate(entries) if entry)
    scheduler = model._loop._scheduler
    assert scheduler.running == [row for row in rows if row]
    if not scheduler.waiting:  # else the next step fills the holes
        _check_consecutive(cache)


def _check_consecutive(cache: KvCache) -> None:
    """No hole between running sequences, unless pinned entries take all other slots."""
    running = [slot for slot, row in enumerate(cache._slots.rows) if row]
    if running and running[-1] - running[0] >= len(running):
        assert len(running) + cache.n_pinned == len(cache._slots.rows)


def check_contents(model: LocalModel) -> None:
    """A slot holds exactly what its sequence or cached sequence says, and else nothing.

    A FakeBackend knows the tokens; llama.cpp tells how many there are.
    """
    cache, backend = _kv_cache(model), backend_of(model)
    if cache._epoch != n_cache_resets(model):
        return  # all was lost, which the next step notices
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


def check_pinned(model: LocalModel, prefixes: Iterable[Prefix]) -> None:
    """Exactly these prefixes are pinned."""
    pinned = {id(entry) for entry in _kv_cache(model).entries if entry.is_pinned}
    assert pinned == {id(prefix._row.kept) for prefix in prefixes}


def check_idle(model: LocalModel) -> None:
    """No request is left, no sequence runs or waits, and every slot is free."""
    loop = model._loop
    with model._turns.alone():
        pass  # the thread that drives for tasks wakes them just before it lets go
    assert loop.idle
    assert not loop._request_of
    assert not loop._deadlines
    assert not loop._scheduler.running
    assert not loop._scheduler.waiting
    assert loop.kv_cache.n_running == 0
    assert model._turns._driver is None
    check_slots(model)


def _kv_cache(model: LocalModel) -> KvCache:
    return model._loop.kv_cache
