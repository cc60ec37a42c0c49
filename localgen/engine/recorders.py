"""What is kept of each step's logits when a caller asks for it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from localgen.engine.backend import Logits
from localgen.engine.sampling import filters
from localgen.errors import DecodeError

Top = tuple[tuple[int, float], ...]


class LogprobRecorder:
    """Log-probability of each chosen token, and of the ``n_top`` likeliest, from one row alone."""

    def __init__(self, n_top: int) -> None:
        self._n_top = n_top
        self.steps: list[tuple[int, float, Top]] = []

    def record(self, logits: Logits, scores: Callable[[], Logits], token_id: int) -> None:
        if not math.isfinite(logits.max()):  # of a token that a mask or processor has removed
            raise DecodeError(
                "the model gave logits that are not finite, so there are no log-probabilities; the "
                "weights may be damaged, or the KV cache type too imprecise"
            )
        total = filters.log_sum_exp(logits)
        self.steps.append((token_id, float(logits[token_id]) - total, self._top(logits, total)))

    def rollback(self, n_tokens: int) -> None:
        del self.steps[len(self.steps) - n_tokens :]

    def copy(self) -> LogprobRecorder:
        clone = LogprobRecorder(self._n_top)
        clone.steps = list(self.steps)
        return clone

    def _top(self, logits: Logits, total: float) -> Top:
        n_top = min(self._n_top, len(logits))
        if not n_top:
            return ()
        ids = filters.top_k_candidates(logits, n_top)
        ids = ids[np.argsort(-logits[ids], kind="stable")[:n_top]]
        return tuple(zip(ids.tolist(), (logits[ids].astype(float) - total).tolist(), strict=True))


class StepRecorder:
    """Copies of each step's logits and scores, for ``output_logits`` and ``output_scores``."""

    def __init__(self, *, keep_logits: bool, keep_scores: bool) -> None:
        self._keep_logits = keep_logits
        self._keep_scores = keep_scores
        self.logits: list[Logits] = []
        self.scores: list[Logits] = []

    def record(self, logits: Logits, scores: Callable[[], Logits], token_id: int) -> None:
        if self._keep_logits:
            self.logits.append(logits.copy())
        if self._keep_scores:
            self.scores.append(scores().copy())

    def rollback(self, n_tokens: int) -> None:
        for kept in (self.logits, self.scores):
            del kept[max(0, len(kept) - n_tokens) :]

    def copy(self) -> StepRecorder:
        clone = StepRecorder(keep_logits=self._keep_logits, keep_scores=self._keep_scores)
        clone.logits, clone.scores = list(self.logits), list(self.scores)
        return clone


def by_step(rows: list[list[Logits]], n_vocab: int) -> tuple[npt.NDArray[np.float32], ...]:
    """Per-row lists of (n_vocab,) as one (rows, n_vocab) array a step, NaN where a row is over."""
    steps = []
    for step in range(max(map(len, rows))):
        matrix = np.full((len(rows), n_vocab), np.nan, np.float32)
        for target, row in zip(matrix, rows, strict=True):
            if step < len(row):
                target[:] = row[step]
        steps.append(matrix)
    return tuple(steps)
