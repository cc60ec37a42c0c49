"""Chunks of a text's tokens, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from localgen.text.chunks import chunks


@pytest.mark.parametrize(
    ("n_chunks", "bos", "expected"),
    [
        (None, None, [[0, 1, 2], [3, 4, 5]]),
        (9, None, [[0, 1, 2], [3, 4, 5]]),
        (1, None, [[0, 1, 2]]),
        (None, 99, [[99, 1, 2], [99, 4, 5]]),
    ],
)
def test_whole_chunks_that_begin_with_bos(
    n_chunks: int | None, bos: int | None, expected: list[list[int]]
) -> None:
    token_ids = np.arange(8, dtype=np.int32)
    assert [part.tolist() for part in chunks(token_ids, 3, n_chunks, bos)] == expected
    assert token_ids[0] == 0
