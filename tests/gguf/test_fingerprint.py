"""The fingerprint of a file: which changes it detects."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from localgen.gguf.fingerprint import fingerprint

MIB = 2**20


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Eight MiB of noise: more than the first and last MiB, which are read whole."""
    path = tmp_path / "weights"
    path.write_bytes(np.random.default_rng(0).bytes(8 * MIB))
    return path


def test_fingerprint_is_of_the_content(weights: Path, tmp_path: Path) -> None:
    """A copy with another name is the same model."""
    copy = tmp_path / "copy"
    copy.write_bytes(weights.read_bytes())
    assert re.fullmatch("[0-9a-f]{64}", fingerprint(weights))
    assert fingerprint(copy) == fingerprint(weights)


@pytest.mark.parametrize("place", [0, MIB - 1, 7 * MIB, 8 * MIB - 1])
def test_fingerprint_sees_one_byte_at_either_end(weights: Path, place: int) -> None:
    """Metadata is at the start of a file; a single byte there can change an option."""
    before = fingerprint(weights)
    data = bytearray(weights.read_bytes())
    data[place] ^= 1
    weights.write_bytes(data)
    assert fingerprint(weights) != before


def test_fingerprint_sees_other_weights_in_the_middle(weights: Path) -> None:
    """Two quantizations may have the same start, end and size."""
    before = fingerprint(weights)
    data = bytearray(weights.read_bytes())
    data[3 * MIB : 4 * MIB] = bytes(MIB)
    weights.write_bytes(data)
    assert fingerprint(weights) != before


@pytest.mark.parametrize("size", [0, 1, 2**16, MIB + 1])
def test_fingerprint_of_a_small_file(tmp_path: Path, size: int) -> None:
    """A file smaller than the sampled parts has a fingerprint, which depends on its size."""
    small, longer = tmp_path / "small", tmp_path / "longer"
    small.write_bytes(bytes(size))
    longer.write_bytes(bytes(size + 1))
    assert fingerprint(small) != fingerprint(longer)
