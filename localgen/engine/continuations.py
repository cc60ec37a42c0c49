"""Log-probabilities of given continuations of a prompt, many at once; no sampling.

The last token of a continuation is never computed: its probability is in the logits before it. What
is computed are *paths*: the tokens before the last ones. Continuations whose tokens before the last
one are the beginning of a path are all read off its logits, so those of one token each need nothing
but the prompt. The sequences of one prompt compute it once (``Sequence.prompt_of``), and then put
their paths through the same passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from localgen.engine.backend import Logits, TokenIds
from localgen.engine.decoding import Output, Step
from localgen.engine.sampling.filters import log_sum_exp
from localgen.engine.sequence import Sequence
from localgen.errors import DecodeError

Logprobs = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]

# A pass is kept to this many bytes of logits, as long as each sequence has one row of them.
_LOGIT_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """Tokens to compute after a prompt, and the continuations that are read off their logits.

    token_ids: int32 (n,); n may be 0. Continuation ``indices[i]`` is the first ``depths[i]`` of
    them, and then ``last_ids[i]``; all three are (m,), depths rising.
    """

    token_ids: TokenIds
    indices: Indices
    depths: Indices
    last_ids: TokenIds


def paths_of(continuations: Items[tuple[int, ...]]) -> list[Path]:
    """Return the fewest paths that all continuations, none of them empty, can be read off."""
    found: list[tuple[tuple[int, ...], list[int]]] = []
    order = sorted(range(len(continuations)), key=lambda index: continuations[index][:-1])
    # Backwards, since what a path begins with comes right before it in this order.
    for index in reversed(order):
        before_last = continuations[index][:-1]
        if found and found[-1][0][: len(before_last)] == before_last:
            found[-1][1].append(index)
        else:
            found.append((before_last, [index]))
    return [_path(token_ids, indices[::-1], continuations) for token_ids, indices in found[::-1]]


def _path(
    token_ids: tuple[int, ...], indices: list[int], continuations: Items[tuple[int, ...]]
) -> Path:
    """Return a path; ``indices``: of continuations by rising length."""
    return Path(
        np.array(token_ids, np.int32),
        np.array(indices, np.intp),
        np.array([len(continuations[index]) - 1 for index in indices], np.intp),
        np.array([continuations[index][-1] for index in indices], np.int32),
    )


@dataclass(slots=True, eq=False)
class PathLogprobs:
    """What was found along a path so far, of its own tokens (n,) and of the last tokens (m,) of
    its continuations: their log-probabilities, and whether they are the most likely tokens."""

    path: Path
    of_tokens: Logprobs = field(init=False)
    of_last: Logprobs = field(init=False)
    best_tokens: Flags = field(init=False)
    best_last: Flags = field(init=False)

    def __post_init__(self) -> None:
        n_tokens, n_last = len(self.path.token_ids), len(self.path.last_ids)
        self.of_tokens, self.of_last = np.full(n_tokens, np.nan), np.full(n_last, np.nan)
        self.best_tokens, self.best_last = np.zeros(n_tokens, bool), np.zeros(n_last, bool)

    def add(self, depth: int, rows: Logits, log_sums: Items[float]) -> None:
        """Take the logits (k, n_vocab) after the prompt and ``depth`` tokens, and after each of the
        next ones; ``log_sums``: the log of the sum of exp of each row."""
        path = self.path
        for at, row, log_sum in zip(range(depth, depth + len(rows)), rows, log_sums, strict=True):
            best = row.argmax()
            if at < len(path.token_ids):
                self.of_tokens[at] = float(row[path.token_ids[at]]) - log_sum
                self.best_tokens[at] = path.token_ids[at] == best
            start, end = np.searchsorted(path.depths, [at, at + 1])
            self.of_last[start:end] = row[path.last_ids[start:end]].astype(np.float64) - log_sum
            self.best_last[start:end] = path.last_ids[start:end] == best

    def sums(self) -> Logprobs:
        """Return the log-probability of each whole continuation (m,), once all rows were added."""
        before = np.concatenate([[0.0], np.cumsum(self.of_tokens)])
        sums: Logprobs = before[self.path.depths] + self.of_last
        return sums

    def greedy(self) -> Flags:
        """Return whether each continuation (m,) is what greedy decoding would choose."""
        before = np.logical_and.accumulate(np.concatenate([[True], self.best_tokens]))
        flags: Flags = before[self.path.depths] & self.best_last
        return flags


class ContinuationScoring:
    """Puts paths through the model after their prompts. Implements ``DecodingStrategy``.

    logprobs: of each sequence of the request; its path must fit after the prompt with one token of
    room. n_together: how many sequences may run at once.
    """

    def __init__(
        self, logprobs: Mapping[Sequence, PathLogprobs], n_vocab: int, n_together: int
    ) -> None:
        self._logprobs = logprobs
        self._most_rows = _LOGIT_BYTES // (4 * n_vocab)
        self._n_together = n_together
        self._n_unfinished = len(logprobs)

    def advance(self, outputs: list[Output], step: Step) -> None:
        # Sequences that share their prompt share these rows, too.
        log_sums: dict[int, list[float]] = {}
        n_together = max(1, min(self._n_together, self._n_unfinished))
        n_next = max(1, self._most_rows // n_together)
        for output in outputs:
            key = id(output.logits)
            if key not in log_sums:
                log_sums[key] = _log_sums(output)
            self._advance(output, log_sums[key], n_next, step)

    def _advance(self, output: Output, log_sums: list[float], n_next: int, step: Step) -> None:
        sequence, rows = output.sequence, output.logits
        logprobs = self._logprobs[sequence]
        n_in_kv = sequence.n_kv - sequence.n_prompt
        # The last row is the one after the last token in the KV cache.
        logprobs.add(n_in_kv + 1 - len(rows), rows, log_sums)
        sequence.output_from = sequence.n_kv
        if sequence.n_pending:
            return
        following = logprobs.path.token_ids[n_in_kv : n_in_kv + n_next].tolist()
        if not following:
            self._n_unfinished -= 1
            step.drop(sequence)
            return
        for token_id in following:
            step.accept(sequence, token_id)
        sequence.output_from = sequence.n_kv  # the logits after each of them


def _log_sums(output: Output) -> list[float]:
    log_sums = [log_sum_exp(row) for row in output.logits]
    if not np.isfinite(log_sums).all():
        raise DecodeError(
            f"the model gave logits that are not finite within its first {output.sequence.n_kv} "
            f"tokens; the weights may be damaged, or the KV cache type too imprecise"
        )
    return log_sums
