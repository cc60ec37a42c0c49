"""Importance matrices that are none, or corrupt; good ones are in quantization/test_quantize.py."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from localgen import InvalidGGUFError, QuantizeError
from localgen.gguf.imatrix_file import Gaps, find_gaps, read_imatrix
from tests.systems import make_pipe

SUMS, COUNTS = "a.in_sum2", "a.counts"


def write(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    writer = gguf.GGUFWriter(path, "imatrix")
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


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
        (
            {SUMS: np.array([1, -1], np.float32), COUNTS: np.ones(1, np.float32)},
            "the importance of a is negative",
        ),
        (
            {SUMS: np.ones(2, np.float32), COUNTS: np.array([-1], np.float32)},
            "the importance of a is negative",
        ),
        (  # a NaN that NumPy warns of when it converts it
            {SUMS: np.array([0x7F800001], "<u4").view("<f4"), COUNTS: np.ones(1, np.float32)},
            "the importance of a is not finite",
        ),
        *(
            (
                {SUMS: np.ones(2, np.float32), COUNTS: np.array([count], np.float32)},
                "the counts of a are not finite, or larger than any text",
            )
            for count in (np.nan, np.inf, 1e38)
        ),
    ],
)
def test_bad_matrix(tensors: dict[str, np.ndarray], reason: str, tmp_path: Path) -> None:
    """The error says what is wrong with which tensor."""
    path = write(tmp_path / "imatrix.gguf", tensors)
    with pytest.raises(QuantizeError, match=reason):
        read_imatrix(path)


@pytest.mark.parametrize("name", ["chunk_count", "chunk_size"])
def test_a_number_of_chunks_that_cannot_be(name: str, tmp_path: Path) -> None:
    """A matrix was made from it that no program could read, or a run was taken for complete."""
    path = tmp_path / "imatrix.gguf"
    writer = gguf.GGUFWriter(path, "imatrix")
    writer.add_int32(f"imatrix.{name}", -1)
    writer.add_tensor(SUMS, np.ones(2, np.float32))
    writer.add_tensor(COUNTS, np.ones(1, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(QuantizeError, match=rf"is corrupt: imatrix\.{name} is -1"):
        read_imatrix(path)


def test_a_column_without_data_counts_like_the_average(tmp_path: Path) -> None:
    """Regression: a weight of zero quantized it to anything; by hand, for two experts each."""
    sums = np.array([[2, 0, 4, 0], [0, 0, 0, 0]], np.float32)
    tensors = {
        SUMS: sums, COUNTS: np.array([[2], [5]], np.float32),
        "b.in_sum2": np.zeros(2, np.float32), "b.counts": np.ones(1, np.float32),
        "c.in_sum2": np.ones(2, np.float32), "c.counts": np.ones(1, np.float32),
    }  # fmt: skip
    path = write(tmp_path / "imatrix.gguf", tensors)
    values = {name: data.tolist() for name, data in read_imatrix(path).items()}
    assert values == {"a": [1, 1.5, 2, 1.5, 1, 1, 1, 1], "b": [1, 1], "c": [1, 1]}
    assert find_gaps(path) == Gaps(whole=("b",), partial=("a",))


def test_a_pipe_is_no_importance_matrix(tmp_path: Path) -> None:
    """It is read twice, and opening it would wait."""
    make_pipe(tmp_path / "pipe")
    with pytest.raises(InvalidGGUFError, match="is a pipe"):
        read_imatrix(tmp_path / "pipe")
