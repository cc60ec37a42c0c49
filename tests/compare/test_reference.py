"""A reference stored on disk, because it and another level do not fit in memory together."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import CompareError, ModelConfig
from localgen._util import system
from localgen.compare import Comparison, compare
from localgen.compare.reference import StoredReference, pack, unpack
from localgen.gguf import gate
from localgen.llama import fitting

TEXT = "The lighthouse stood at the end of a long road that few people took in winter. " * 4


def logits(n_rows: int, n_vocab: int = 200) -> Any:
    return np.random.default_rng(0).normal(0, 8, (n_rows, n_vocab)).astype(np.float32)


def test_16_bits_a_value() -> None:
    """Each value is off by at most half a step, relative to the row's largest."""
    rows = logits(5)
    packed, low, step = pack(rows)
    assert packed.dtype == np.uint16
    shifted = rows - rows.max(axis=1, keepdims=True)
    assert np.allclose(step[:, 0], -shifted.min(axis=1) / 65535)
    assert np.abs(unpack(packed, low, step) - shifted).max() <= 0.51 * step.max()


def test_the_most_likely_token_stays_the_most_likely() -> None:
    """Also if an earlier token's logit would round to the same number."""
    row = np.zeros((1, 4), np.float32)
    row[0] = [9.99999, -20, 10, 9.99999]
    packed, low, step = pack(row)
    assert unpack(packed, low, step)[0].argmax() == 2
    assert (packed == 65535).sum() == 1


def test_equal_logits() -> None:
    """A row of equal values has no step to divide by."""
    packed, low, step = pack(np.full((2, 3), 7, np.float32))
    assert np.isfinite(unpack(packed, low, step)).all()


def test_chunks_come_back_in_any_order(tmp_path: Path) -> None:
    """Each level reads all chunks again."""
    parts = [np.arange(9, dtype=np.int32), np.arange(9, 18, dtype=np.int32)]
    stored = StoredReference(tmp_path, parts, 200, 2)
    rows = logits(8)
    for number in range(2):
        start = 4 * number
        targets = [parts[number][5:7], parts[number][7:9]]
        stored.take(
            (rows[start + 2 * i : start + 2 * i + 2], targets[i]) for i in range(len(targets))
        )
    assert stored.n_bytes == 8 * 200 * 2
    for number in (1, 0, 1):
        blocks = list(stored.blocks(number))
        again = np.concatenate([block for block, _ in blocks])
        expected = rows[4 * number : 4 * number + 4]
        expected = expected - expected.max(axis=1, keepdims=True)
        assert np.abs(again - expected).max() <= stored.step
        assert np.concatenate([t for _, t in blocks]).tolist() == parts[number][5:].tolist()
    stored.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error before the reference is evaluated, or later if the disk fills up meanwhile."""
    parts = [np.zeros(512, np.int32)] * 1000
    with pytest.raises(CompareError, match=r"need .* GB in .* Use fewer chunks"):
        StoredReference(tmp_path, parts, 10**9, 64)
    stored = StoredReference(tmp_path, parts[:1], 200, 64)

    def full(_: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    stored.close()
    monkeypatch.setattr(stored, "_file", type("Full", (), {"write": staticmethod(full)}))
    with pytest.raises(CompareError, match="No space left on device"):
        stored.take(iter([(logits(2), np.zeros(2, np.int32))]))


def run(path: Path) -> Comparison:
    return compare(
        path, ["F32", "Q8_0", "Q4_0"], text=TEXT, n_ctx=32, n_chunks=2, speed=False, n_threads=1
    )


def test_the_same_figures_from_the_disk(
    tiny_bpe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result has a note, and its figures are off by no more than the note says."""
    live = run(tiny_bpe_path)
    assert not any("on disk" in note for note in live.notes)
    monkeypatch.setattr(fitting, "fit_together", lambda models: False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stored = run(tiny_bpe_path)
    (note,) = (note for note in stored.notes if "on disk" in note)
    error = float(note.rsplit(" ", 1)[1])
    assert note.startswith("F32 and another level do not fit in memory together")
    assert 0 < error < 1e-3
    for name in ("Q8_0", "Q4_0"):
        a, b = live[name], stored[name]
        assert a.kld_mean is not None
        assert b.kld_mean == pytest.approx(a.kld_mean, abs=2 * error)
        assert b.perplexity == a.perplexity  # the level's own, whose logits were not stored
        assert b.top1_agreement == a.top1_agreement
        assert b.kld_mean != a.kld_mean  # it did use the file
    assert live.noise is not None
    assert live.noise.kld_max == 0
    assert stored.noise is not None
    assert stored.noise.kld_max == pytest.approx(0, abs=2 * error)
    assert list(tmp_path.iterdir()) == []


def test_memory_for_one_or_for_both(tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum of what both models need must fit."""
    model = (gate.check_model(tiny_bpe_path), ModelConfig(n_ctx=64))
    needed = fitting.estimate(*model, 0).needed
    for available, fits in ((2 * needed, True), (2 * needed - 1, False), (None, True)):
        monkeypatch.setattr(system, "available_memory", lambda available=available: available)
        assert fitting.fit_together([model, model]) is fits
