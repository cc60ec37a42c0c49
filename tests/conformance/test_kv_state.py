"""The backend's slots: copied as bytes, cut short, stopped inside a pass, on every memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from localgen import ModelConfig
from localgen.engine.backend import Batch, Logits, PassStopped
from localgen.llama.backend import LlamaBackend
from tests.conformance.compare import OPTIONS, TOLERANCE, prompt
from tests.conftest import ask_at_every_node


@pytest.fixture
def backend(path: Path) -> Iterator[LlamaBackend]:
    """A backend with three slots."""
    backend = LlamaBackend(path, ModelConfig(n_batch=64, max_sequences=8, **OPTIONS))
    backend.reserve(3, 256)
    yield backend
    backend.close()


def feed(backend: LlamaBackend, slot: int, ids: list[int], start: int = 0) -> Logits:
    """Decode the tokens of ``ids`` from ``start`` on in a slot; the logits after the last."""
    n = len(ids) - start
    positions = np.arange(start, len(ids), dtype=np.int32)
    slots = np.full(n, slot, np.int32)
    token_ids, outputs = np.array(ids[start:], np.int32), np.array([n - 1], np.int32)
    return backend.decode(Batch(token_ids, positions, slots, outputs)).copy()


def skip_unless_saved(backend: LlamaBackend) -> None:
    if not backend.can_save:
        pytest.skip("of a sliding window llama.cpp saves the end only")


def test_kv_state_continues_equally_in_another_slot(backend: LlamaBackend) -> None:
    """Protects what a slot's bytes say: the same sequence, wherever they are put."""
    skip_unless_saved(backend)
    ids = prompt(1, 50)
    feed(backend, 1, ids[:40])
    feed(backend, 0, prompt(2, 20))
    state = backend.kv_state(1).copy()
    assert backend.set_kv_state(2, state, 40)
    assert backend.set_kv_state(0, state, 40)
    first, *others = [feed(backend, slot, ids, 40) for slot in (1, 2, 0)]
    for other in others:
        np.testing.assert_allclose(other, first, atol=TOLERANCE)


@pytest.mark.parametrize("n_slots", [1, 2, 7])
def test_kv_state_continues_equally_among_other_numbers_of_slots(
    n_slots: int, backend: LlamaBackend
) -> None:
    """Protects bytes that outlive their context: the next may have more slots, or fewer.

    A hybrid's are refused, as its sessions are, and leave the slot empty.
    """
    skip_unless_saved(backend)
    ids = prompt(1, 50)
    feed(backend, 1, ids[:40])
    state = backend.kv_state(1).copy()
    expected = feed(backend, 1, ids, 40)
    backend.reserve(n_slots, 512)
    for slot in {0, n_slots - 1}:
        is_set = backend.set_kv_state(slot, state, 40)
        assert is_set == (backend.not_saved_because is None)
        done = 40 if is_set else 0
        np.testing.assert_allclose(feed(backend, slot, ids, done), expected, atol=TOLERANCE)


def test_kv_copy_continues_equally(backend: LlamaBackend) -> None:
    """Protects a copy, and what it was made from, when both go on apart."""
    ids, other = prompt(1, 50), [*prompt(1, 40), *prompt(9, 10)]
    expected = [feed(backend, slot, each) for slot, each in ((1, ids), (2, other))]
    backend.forget()
    feed(backend, 0, ids[:40])
    backend.kv_copy(0, 2)
    for slot, each, logits in ((0, ids, expected[0]), (2, other, expected[1])):
        np.testing.assert_allclose(feed(backend, slot, each, 40), logits, atol=TOLERANCE)


def test_kv_truncate_leaves_the_other_slots_byte_identical(backend: LlamaBackend) -> None:
    """Protects neighbours: cutting, emptying or filling one slot changes no byte of another."""
    skip_unless_saved(backend)
    for slot in range(3):
        feed(backend, slot, prompt(slot, 30 + slot))
    before = [backend.kv_state(slot).tobytes() for slot in (0, 2)]
    if backend.can_truncate:
        assert backend.kv_truncate(1, 10)
        assert [backend.kv_state(slot).tobytes() for slot in (0, 2)] == before
        feed(backend, 1, prompt(1, 25), 10)
        assert [backend.kv_state(slot).tobytes() for slot in (0, 2)] == before
    else:
        assert not backend.kv_truncate(1, 10)
    assert backend.kv_truncate(1, 0)
    assert [backend.kv_state(slot).tobytes() for slot in (0, 2)] == before


def test_kv_truncate_then_other_tokens_equals_a_fresh_slot(backend: LlamaBackend) -> None:
    """Protects a slot that is cut and goes on otherwise: what was cut off leaves no trace."""
    if not backend.can_truncate:
        pytest.skip("a recurrent state knows no earlier one")
    for cut in (1, 7, 8, 25, 39):
        ids = [*prompt(1, cut), *prompt(5, 12)]
        feed(backend, 0, prompt(1, 40))
        assert backend.kv_truncate(0, cut)
        got = feed(backend, 0, ids, cut)
        np.testing.assert_allclose(got, feed(backend, 1, ids), atol=TOLERANCE)
        backend.forget()


def test_abort_at_every_kth_node_then_retry_equals_no_abort(
    backend: LlamaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects all slots wherever a pass is stopped: each is as before, or the epoch says no."""
    ask_at_every_node(monkeypatch)
    ids = prompt(1, 60)
    feed(backend, 1, prompt(2, 20))
    neighbour = feed(backend, 1, prompt(2, 21), 20)
    feed(backend, 0, ids[:10])
    expected = feed(backend, 0, ids, 10)
    n_stopped = 0
    for n_looks in range(0, 10_000, 9):
        backend.forget()
        feed(backend, 1, prompt(2, 20))
        feed(backend, 0, ids[:10])
        epoch, looks = backend.n_cache_resets, count()
        batch = Batch(
            np.array(ids[10:], np.int32),
            np.arange(10, 60, dtype=np.int32),
            np.zeros(50, np.int32),
            np.array([49], np.int32),
        )
        try:
            got = backend.decode(batch, lambda: next(looks) >= n_looks)  # noqa: B023
        except PassStopped:
            n_stopped += 1
            if backend.n_cache_resets > epoch:
                feed(backend, 1, prompt(2, 20))
                feed(backend, 0, ids[:10])
            got = backend.decode(batch)
            np.testing.assert_allclose(got, expected, atol=TOLERANCE)
            after = feed(backend, 1, prompt(2, 21), 20)
            np.testing.assert_allclose(after, neighbour, atol=TOLERANCE)
        else:
            np.testing.assert_allclose(got, expected, atol=TOLERANCE)
            break
    assert n_stopped > 3


@pytest.mark.parametrize("n_cells", [None, 512], ids=["streams", "shared cells"])
def test_kv_moves_between_the_layouts_of_attention(
    n_cells: int | None, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects what sequences hold when flash attention goes on and off: values change places."""
    # The two kernels round differently; values in a wrong place would be 1 and more apart.
    apart = 0.1
    monkeypatch.setattr("localgen.llama.backend.LEAST_WEIGHTS", 0)
    options = {**OPTIONS, "flash_attention": "auto", "kv_type": "f16"}
    backend = LlamaBackend(path, ModelConfig(n_batch=64, max_sequences=8, **options))
    if not backend.adapts or (n_cells and not backend.can_share_cells):
        backend.close()
        pytest.skip("its state cannot be moved")
    ids = [prompt(slot, 50) for slot in range(3)]
    backend.reserve(3, 256, n_cells=n_cells)
    expected = [feed(backend, slot, each) for slot, each in enumerate(ids)]
    for slot in range(3):
        backend.kv_truncate(slot, 40)
    for setting in ("on", "off", "on", "on"):
        backend._attention.next = setting
        backend.reserve(3, 256, [2, 0, 1], n_cells=n_cells)
        assert backend.flash_attention == setting
        ids = [ids[2], ids[0], ids[1]]
        expected = [expected[2], expected[0], expected[1]]
        for slot, each in enumerate(ids):
            got = feed(backend, slot, each, 40)
            np.testing.assert_allclose(got, expected[slot], atol=apart)
            backend.kv_truncate(slot, 40)
        state = backend.kv_state(0)
        assert backend.set_kv_state(1, state, 40)
        np.testing.assert_allclose(feed(backend, 1, ids[0], 40), expected[0], atol=apart)
        backend.set_kv_state(1, backend.kv_state(2), 40)
        ids[1], expected[1] = ids[2], expected[2]
    assert backend.n_cache_resets == 0
    backend.close()
