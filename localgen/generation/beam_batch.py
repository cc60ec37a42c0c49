"""All beams of a call as one batch, which is what a caller's functions see of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from localgen.engine.backend import Logits
from localgen.engine.beams import Candidates, Path
from localgen.generation.hooks import Flags, Hooks, Scores
from localgen.generation.inputs import Matrix


class BeamBatch:
    """The rows of a call, ``n_beams`` for each prompt, padded as in transformers.

    prompts: int64 (prompts, length), as the caller gave them. n_new: the most new tokens. A beam
    that is no more has the row of its prompt's best one; those of a prompt that is over stay what
    they were, padded.
    """

    def __init__(
        self, hooks: Hooks, prompts: Matrix, n_beams: int, n_new: int, pad_token_id: int
    ) -> None:
        self._hooks = hooks
        self._n_beams = n_beams
        self._n_tokens = prompts.shape[1]
        self._pad_token_id = pad_token_id
        width = prompts.shape[1] + n_new
        self._token_ids = np.full((len(prompts), n_beams, width), pad_token_id, np.int64)
        self._token_ids[:, :, : self._n_tokens] = prompts[:, None]
        self._scores: Logits | None = None

    def processed(self, rows: Mapping[int, list[Logits]]) -> dict[int, Logits]:
        """Return what the caller's processors make of the scores of each prompt's beams.

        rows: those of each prompt that is not over. Returns (beams, n_vocab) for each.
        """
        if self._scores is None:
            n_vocab = len(next(iter(rows.values()))[0])
            self._scores = np.zeros((*self._token_ids.shape[:2], n_vocab), np.float32)
        for index, own in rows.items():
            self._scores[index] = own[0]
            self._scores[index, : len(own)] = own
        given = self._token_ids[:, :, : self._n_tokens].reshape(-1, self._n_tokens)
        flat = self._hooks.processed(given, self._scores.reshape(len(given), -1))
        scores: Logits = flat.reshape(self._scores.shape)
        return {index: scores[index, : len(own)] for index, own in rows.items()}

    def stopped(
        self, found: Mapping[int, Candidates], n_candidates: int, scores: Scores | None
    ) -> dict[int, Flags]:
        """Return which candidates of each prompt a criterion ends."""
        shape = (len(self._token_ids), n_candidates, self._n_tokens + 1)
        token_ids = np.full(shape, self._pad_token_id, np.int64)
        token_ids[:, :, :-1] = self._token_ids[:, :1, : self._n_tokens]
        for index, own in found.items():
            rows = np.arange(n_candidates) % len(own)  # there may be fewer, which are repeated
            token_ids[index, :, :-1] = self._token_ids[index, own.beams[rows], : self._n_tokens]
            token_ids[index, :, -1] = own.token_ids[rows]
        flags = self._hooks.stopped(token_ids.reshape(-1, shape[2]), scores).reshape(shape[:2])
        return {index: flags[index, : len(own)] for index, own in found.items()}

    def follow(self, beams: Mapping[int, tuple[Path | None, ...]]) -> None:
        """Take over the beams of each prompt after a step; none of one that is over."""
        for index, paths in beams.items():
            own = [path for path in paths if path is not None]
            if not own:
                continue
            rows = [own[number if number < len(own) else 0] for number in range(self._n_beams)]
            self._token_ids[index] = self._token_ids[index, [path.beam for path in rows]]
            self._token_ids[index, :, self._n_tokens] = [path.token_id for path in rows]
        self._n_tokens += 1
