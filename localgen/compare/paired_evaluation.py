"""A text under two models at the same time, a few rows of logits after another: no logits file.

As llama-perplexity does it: chunks of ``n_ctx`` tokens, each from an empty context and with BOS in
the place of its first token where the model wants one; the second half of a chunk is scored.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from localgen.compare.metrics import TokenMetrics, token_metrics
from localgen.engine.backend import Backend, Batch, Logits, TokenIds
from localgen.errors import DecodeError

# Bytes of logits that both models may hold at a time.
_LOGIT_BYTES = 48 * 2**20
_MOST_ROWS = 256


def rows_at_a_time(n_vocab: int) -> int:
    """The tokens of one forward pass: llama.cpp holds their logits twice, in graph and output."""
    return max(1, min(_MOST_ROWS, _LOGIT_BYTES // (2 * 2 * 4 * n_vocab)))


def chunks(token_ids: TokenIds, n_ctx: int, n_chunks: int, bos: int | None) -> list[TokenIds]:
    """The first ``n_chunks`` chunks of a text, or as many as it has."""
    n = min(n_chunks, len(token_ids) // n_ctx)
    parts = [token_ids[i * n_ctx : (i + 1) * n_ctx].astype(np.int32) for i in range(n)]
    for part in parts:
        if bos is not None:
            part[0] = bos
    return parts


def compare_chunk(
    theirs: Iterator[tuple[Logits, TokenIds]], candidate: Backend, chunk: TokenIds, n_rows: int
) -> TokenMetrics:
    """The candidate over one chunk, and its difference from the reference's blocks of ``n_rows``,
    at each token of the chunk's second half."""
    ours = scored_blocks(candidate, chunk, n_rows)
    return TokenMetrics.joined(
        [token_metrics(a, b, targets) for (a, targets), (b, _) in zip(theirs, ours, strict=True)]
    )


def scored_blocks(
    backend: Backend, chunk: TokenIds, n_rows: int
) -> Iterator[tuple[Logits, TokenIds]]:
    """Logits (n_rows, n_vocab), borrowed until the next block, and the tokens that follow."""
    backend.forget()
    first, end = len(chunk) // 2, len(chunk) - 1
    for start in range(0, first, backend.n_batch):
        _decode(backend, chunk, start, min(first, start + backend.n_batch), scored=False)
    for start in range(first, end, n_rows):
        stop = min(end, start + n_rows)
        logits = _rows(backend, chunk, start, stop)
        if not np.isfinite(logits.max(axis=1)).all():
            raise DecodeError(
                f"the logits of tokens {start} to {stop} are not finite: the weights may be "
                f"corrupt, or the KV cache type too coarse"
            )
        yield logits, chunk[start + 1 : stop + 1]


def _rows(backend: Backend, chunk: TokenIds, start: int, stop: int) -> Logits:
    """The logits of some tokens, in one pass if the backend's are as long."""
    if stop - start <= backend.n_batch:
        return _decode(backend, chunk, start, stop, scored=True)
    passes = range(start, stop, backend.n_batch)
    return np.concatenate(
        [
            _decode(backend, chunk, at, min(stop, at + backend.n_batch), scored=True).copy()
            for at in passes
        ]
    )


def _decode(backend: Backend, chunk: TokenIds, start: int, stop: int, *, scored: bool) -> Logits:
    positions = np.arange(start, stop, dtype=np.int32)
    wants = np.full(stop - start, scored, np.int8)
    token_ids = np.ascontiguousarray(chunk[start:stop])
    return backend.decode(Batch(token_ids, positions, np.zeros(stop - start, np.int32), wants))
