"""Written files, as an independent reader and localgen's own see them."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from localgen.gguf.imatrix_file import Imatrix, read_sums
from localgen.gguf.imatrix_sums import Sums
from localgen.gguf.writer import Metadata, gguf_bytes


def test_an_independent_reader_finds_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    tensors = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.ones((1, 5), np.float32),
        "c": np.full((4, 1), 7, np.float32),
    }
    metadata: Metadata = {"general.type": "imatrix", "n": 2**32 - 1, "texts": ("é", ""), "none": ()}
    path.write_bytes(b"".join(gguf_bytes(metadata, tensors)))
    read = gguf.GGUFReader(path)
    assert {t.name: t.data.tolist() for t in read.tensors} == {
        "a": [[0, 1, 2], [3, 4, 5]], "b": [1] * 5, "c": [[7]] * 4,
    }  # fmt: skip
    fields = {name: read.fields[name].contents() for name in ("general.type", "n", "texts")}
    assert fields == {"general.type": "imatrix", "n": 2**32 - 1, "texts": ["é", ""]}


def test_an_importance_matrix_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    written = Imatrix(
        sums={"w": Sums(np.array([[1.5, 2], [0, 0]]), np.array([3, 0]))},
        datasets=("a.txt", "b.txt"),
        n_chunks=7,
        chunk_size=512,
        origin={"model": "m", "text_sha256": ("1", "2")},
    )
    written.write(path)
    read = read_sums(path)
    assert read.sums["w"].sums.tolist() == [[1.5, 2], [0, 0]]
    assert read.sums["w"].counts.tolist() == [3, 0]
    for name in ("datasets", "n_chunks", "chunk_size", "origin"):
        assert getattr(read, name) == getattr(written, name)
