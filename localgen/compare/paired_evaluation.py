"""Evaluates a text under two models at the same time, a few rows of logits at a time.

No file of logits is needed. As in llama-perplexity, the text is cut into chunks of ``n_ctx``
tokens, each evaluated from an empty context, with BOS in place of its first token if the model adds
one; the second half of a chunk is scored.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from localgen.compare.metrics import TokenMetrics, token_metrics
from localgen.engine.backend import Backend, Batch, Logits, TokenIds
from localgen.errors import DecodeError

# The most bytes of logits that both models hold at a time.
_LOGIT_BYTES = 48 * 2**20
_MOST_ROWS = 256


def rows_at_a_time(n_vocab: int) -> int:
    """Return the tokens per forward pass, by the memory for their logits."""
    # llama.cpp holds the logits twice, in graph and output.
    return max(1, min(_MOST_ROWS, _LOGIT_BYTES // (2 * 2 * 4 * n_vocab)))


def compare_chunk(
    reference: Iterator[tuple[Logits, TokenIds]], candidate: Backend, chunk: TokenIds, n_rows: int
) -> TokenMetrics:
    """Evaluate the candidate on one chunk and compare it with the reference's blocks of ``n_rows``.

    Returns the metrics of each token of the chunk's second half.
    """
    blocks = zip(reference, scored_blocks(candidate, chunk, n_rows), strict=True)
    return TokenMetrics.joined([token_metrics(a, b, targets) for (a, targets), (b, _) in blocks])


def scored_blocks(
    backend: Backend, chunk: TokenIds, n_rows: int
) -> Iterator[tuple[Logits, TokenIds]]:
    """Yield logits (n_rows, n_vocab), borrowed until the next block, and the tokens that follow."""
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
    """Return the logits of some tokens, from one pass if the backend's batch is long enough."""
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
    outputs = np.arange(stop - start if scored else 0, dtype=np.int32)
    token_ids = np.ascontiguousarray(chunk[start:stop])
    return backend.decode(Batch(token_ids, positions, np.zeros(stop - start, np.int32), outputs))
