"""Logits and log-probabilities of given tokens, in one pass over them; no sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from localgen.engine.backend import Backend, Batch, Logits, TokenIds
from localgen.engine.sampling.filters import log_softmax
from localgen.engine.sequence import Sequence
from localgen.errors import DecodeError

# Every position's logits are wanted here, so a pass is kept to this many bytes of them.
_LOGIT_BYTES = 16 * 2**20


def score(
    backend: Backend, sequence: Sequence, interrupted: Callable[[], bool] = lambda: False
) -> Logits:
    """Return log P(token[i+1] | token[: i+1]) for each token of a prompt (n,), n ≥ 1.

    The sequence has an empty seq_id, which then holds all tokens but the last. Returns float32
    (n - 1,), natural logarithms. Raises as ``logit_chunks``.
    """
    inputs, targets = sequence.prompt_ids[:-1], sequence.prompt_ids[1:]
    logprobs = np.empty(len(targets), np.float32)
    for start, logits in logit_chunks(backend, sequence, inputs, interrupted):
        chunk = slice(start, start + len(logits))
        logprobs[chunk] = log_softmax(logits)[np.arange(len(logits)), targets[chunk]]
    return logprobs


def prompt_logits(
    backend: Backend, sequence: Sequence, interrupted: Callable[[], bool] = lambda: False
) -> Logits:
    """Return the logits after each token of a prompt from ``sequence.output_from`` on, float32
    (n, n_vocab).

    The sequence has an empty seq_id, which then holds all tokens. Raises as ``logit_chunks``.
    """
    first = sequence.output_from
    found = np.empty((sequence.n_prompt - first, backend.n_vocab), np.float32)
    for start, logits in logit_chunks(backend, sequence, sequence.prompt_ids, interrupted, first):
        found[start - first : start - first + len(logits)] = logits
    return found


def logit_chunks(
    backend: Backend,
    sequence: Sequence,
    inputs: TokenIds,
    interrupted: Callable[[], bool],
    first: int = 0,
) -> Iterator[tuple[int, Logits]]:
    """Yield (start, logits) for one part of ``inputs`` after the other, from the ``first`` token
    on; logits: float32 (n, n_vocab), borrowed until the next one.

    Raises DecodeError if logits are not finite, KeyboardInterrupt if ``interrupted()`` between two
    passes.
    """
    n_rows = max(1, min(backend.n_batch, _LOGIT_BYTES // (4 * backend.n_vocab)))
    for start in range(0, len(inputs), n_rows):
        if interrupted():
            raise KeyboardInterrupt
        chunk = inputs[start : start + n_rows]
        n = len(chunk)
        rows = np.arange(n, dtype=np.int32)
        outputs = rows[max(first - start, 0) :]
        seq_ids = np.full(n, sequence.held_seq_id, np.int32)
        logits = backend.decode(Batch(chunk, start + rows, seq_ids, outputs))
        sequence.n_kv += n
        if not np.isfinite(logits.max(axis=1)).all():
            raise DecodeError(
                f"the model gave logits that are not finite within tokens {start} to {start + n}; "
                f"the weights may be damaged, or the KV cache type too imprecise"
            )
        if len(outputs):
            yield start + n - len(outputs), logits
