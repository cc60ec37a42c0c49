"""Log-probabilities of given tokens, in one pass over them; no sampling."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from localgen.engine.backend import Backend, Batch, Logits
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
    (n - 1,), natural logarithms. Raises DecodeError if logits are not finite, KeyboardInterrupt if
    ``interrupted()`` between two passes.
    """
    inputs, targets = sequence.prompt_ids[:-1], sequence.prompt_ids[1:]
    logprobs = np.empty(len(targets), np.float32)
    n_rows = max(1, min(backend.n_batch, _LOGIT_BYTES // (4 * backend.n_vocab)))
    for start in range(0, len(inputs), n_rows):
        if interrupted():
            raise KeyboardInterrupt
        chunk = inputs[start : start + n_rows]
        n = len(chunk)
        rows = np.arange(n, dtype=np.int32)
        seq_ids = np.full(n, sequence.held_seq_id, np.int32)
        logits = backend.decode(Batch(chunk, start + rows, seq_ids, rows))
        sequence.n_kv += n
        if not np.isfinite(logits.max(axis=1)).all():
            raise DecodeError(
                f"the model gave logits that are not finite within tokens {start} to {start + n}; "
                f"the weights may be damaged, or the KV cache type too imprecise"
            )
        logprobs[start : start + n] = log_softmax(logits)[rows, targets[start : start + n]]
    return logprobs
