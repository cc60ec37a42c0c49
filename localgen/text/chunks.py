"""Cuts a text's tokens into chunks, as llama.cpp's tools do; it knows no text."""

from __future__ import annotations

import numpy as np

from localgen.engine.backend import TokenIds


def chunks(
    token_ids: TokenIds, n_ctx: int, n_chunks: int | None, bos: int | None
) -> list[TokenIds]:
    """Return the first ``n_chunks`` chunks of ``n_ctx`` tokens, or all that the text has.

    bos: takes the place of each chunk's first token, unless it is None.
    """
    n_whole = len(token_ids) // n_ctx
    n = n_whole if n_chunks is None else min(n_chunks, n_whole)
    parts = [token_ids[i * n_ctx : (i + 1) * n_ctx].astype(np.int32) for i in range(n)]
    for part in parts:
        if bos is not None:
            part[0] = bos
    return parts
