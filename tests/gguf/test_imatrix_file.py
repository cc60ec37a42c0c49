"""Importance matrices that are none, or corrupt; good ones are in quantization/test_quantize.py."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from localgen import QuantizeError
from localgen.gguf.imatrix_file import read_imatrix

SUMS, COUNTS = "a.in_sum2", "a.counts"


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({}, "has no importance matrix"),
        ({"a.weight": np.ones(2, np.float32)}, "has no importance matrix"),
        ({SUMS: np.ones(2, np.float32)}, "it has sums of a, but no counts"),
        (
            {SUMS: np.ones(3, np.float32), COUNTS: np.ones(2, np.float32)},
            "3 sums of a for 2 counts",
        ),
        (
            {SUMS: np.ones(2, np.float16), COUNTS: np.ones(1, np.float32)},
            r"is not an importance matrix: a\.in_sum2 is not F32",
        ),
    ],
)
def test_bad_matrix(tensors: dict[str, np.ndarray], reason: str, tmp_path: Path) -> None:
    """The error says what is wrong with which tensor."""
    path = tmp_path / "imatrix.gguf"
    writer = gguf.GGUFWriter(path, "imatrix")
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(QuantizeError, match=reason):
        read_imatrix(path)
