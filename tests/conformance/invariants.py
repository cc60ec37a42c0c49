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
from localgen.engine.slots import Item
from localgen.generation.prefix import Prefix
from tests.fakes import FakeBackend, engine_of

# --- what tests ask for ---


def backend_of(model: LocalModel) -> Any:
    """The model's backend: a FakeBackend, or a LlamaBackend."""
    return model._backend


def is_idle(model: LocalModel) -> bool:
    """Return whether no request is left in the engine."""
    return engine_of(model).idle


def n_pinned(model: LocalModel) -> int:
    """Return how many cached sequences are pinned."""
    return _kv_cache(model).n_pinned


def n_cache_resets(model: LocalModel) -> int:
    """Return how often the backend lost all that it held."""
    n_resets: int = backend_of(model).n_cache_resets
    return n_resets


def extended_ids(prefix: Prefix, text: str) -> list[int]:
    """Return the token ids that ``prefix.extend(text)`` pins, for a prefix made of token ids."""
    ids = prefix._with(text, split=False)
    assert not isinstance(ids, str)
    return list(ids)


def forget_all(model: LocalModel) -> None:
    """Empty the KV cache, so that the next prompt is computed from its first token."""
    backend_of(model).forget()
    _kv_cache(model).clear()


def n_held(backend: Any, seq_id: int) -> int:
    """Return how many tokens llama.cpp says that it holds of a sequence."""
    last: int = backend._llama.llama_memory_seq_pos_max(backend._context.memory, seq_id)
    return last + 1


def n_recorded(backend: Any, seq_id: int) -> int:
    """Return how many tokens a LlamaBackend thinks that llama.cpp holds of a sequence."""
    return int(backend._context.lengths[seq_id])


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
    """What is held names the seq_id that holds it, and the scheduler runs just those sequences."""
    cache, backend = _kv_cache(model), backend_of(model)
    items = cache._slots.items
    assert len(items) == backend.n_slots <= model.config.max_sequences
    assert all(item.seq_id == seq_id for seq_id, item in enumerate(items) if item is not None)
    scheduler = engine_of(model)._scheduler
    assert scheduler.running == cache._slots.running
    if not scheduler.waiting:  # else the next step fills the holes
        _check_consecutive(cache)


def _check_consecutive(cache: KvCache) -> None:
    """No hole between running sequences, unless pinned ones take all other slots."""
    items = cache._slots.items
    running = [seq_id for seq_id, item in enumerate(items) if isinstance(item, Sequence)]
    if running and running[-1] - running[0] >= len(running):
        assert len(running) + cache.n_pinned == len(items)


def check_contents(model: LocalModel) -> None:
    """A seq_id holds exactly what its item says, and nothing if it has none.

    A FakeBackend knows the tokens; llama.cpp tells how many there are.
    """
    cache, backend = _kv_cache(model), backend_of(model)
    if cache._n_resets != n_cache_resets(model):
        return  # all was lost, which the next step notices
    items = cache._slots.items
    for seq_id, item in enumerate(items):
        claimed = _claimed(item)
        if isinstance(backend, FakeBackend):
            assert backend.kv[seq_id] == claimed, f"seq_id {seq_id}"
        else:
            assert n_held(backend, seq_id) == len(claimed), f"seq_id {seq_id}"
    if cache._shared is not None:
        assert backend.cells_fit(backend.n_ctx_seq)
        assert cache._shared.n_taken(items) <= backend.n_ctx_seq
    else:
        assert backend.n_slots <= max(1, backend.n_slots_that_fit(max(1, backend.n_ctx_seq)))


def _claimed(item: Item | None) -> list[int]:
    if isinstance(item, Sequence):
        return item.tokens[: item.n_kv].tolist()
    return [] if item is None else item.token_ids.tolist()


def check_pinned(model: LocalModel, prefixes: Iterable[Prefix]) -> None:
    """Exactly these prefixes are pinned."""
    pinned = {id(cached) for cached in _kv_cache(model).cached if cached.is_pinned}
    sequences = [prefix._sequence for prefix in prefixes]
    assert pinned == {id(each.cached) for each in sequences if each is not None}


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


def _kv_cache(model: LocalModel) -> KvCache:
    return engine_of(model).kv_cache
