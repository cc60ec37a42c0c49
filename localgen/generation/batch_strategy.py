"""Decode the sequences of a call step by step together, as the caller's functions see a batch.

A sequence that has logits rests until all others of the call have theirs. Then the functions get
whole matrices, in which a finished sequence is padded, as in transformers.
"""

from __future__ import annotations

import numpy as np

from localgen.engine.backend import Logits
from localgen.engine.decoding import Output, Step, begin_masks, make_masks
from localgen.engine.recorders import StepRecorder
from localgen.engine.sampling.chain import Sampler
from localgen.engine.sequence import Sequence
from localgen.generation.hooks import Flags, Hooks, Scores
from localgen.generation.inputs import Matrix


class BatchStrategy:
    """Chooses one token for each sequence of a call, after the caller's functions saw all of them.

    sequences: all of the call, in the order of the rows. prompts: int64 (rows, length), as the
    caller gave them. Implements ``DecodingStrategy``.
    """

    def __init__(
        self, hooks: Hooks, sequences: list[Sequence], prompts: Matrix, pad_token_id: int
    ) -> None:
        self._hooks = hooks
        self._sequences = sequences
        n_new = max(each.max_new_tokens for each in sequences)
        self._token_ids = np.full(
            (len(sequences), prompts.shape[1] + n_new), pad_token_id, np.int64
        )
        self._n_tokens = prompts.shape[1]
        self._token_ids[:, : self._n_tokens] = prompts
        self._logits: dict[int, Logits] = {}  # of the sequences that rest
        # Scores of a finished sequence stay what they were last.
        self._scores: Logits | None = None
        self._steps: list[Logits] = []
        self._flags: Flags = np.zeros(len(sequences), np.bool_)
        for sequence in sequences:
            sequence.stop_checks = (self._is_stopped,)

    def advance(self, outputs: list[Output], step: Step) -> None:
        for output in outputs:
            if not output.sequence.n_pending:
                self._logits[output.sequence.index] = output.logits[-1].copy()
        unfinished = [each for each in self._sequences if each.finish_reason is None]
        if not unfinished or any(each.index not in self._logits for each in unfinished):
            return
        logits, self._logits = self._logits, {}
        make_masks(unfinished)
        scores = self._processed(unfinished, logits)
        chosen = {
            each: _sampler(each).choose(scores[each.index], logits[each.index], each)
            for each in unfinished
        }
        for sequence, token_id in chosen.items():
            self._token_ids[sequence.index, self._n_tokens] = token_id
        self._n_tokens += 1
        self._flags = self._hooks.stopped(self._given, self._kept_scores(unfinished))
        begin_masks([each for each, token_id in chosen.items() if step.accept(each, token_id)])

    @property
    def _given(self) -> Matrix:
        return self._token_ids[:, : self._n_tokens]

    def _is_stopped(self, sequence: Sequence) -> bool:
        return bool(self._flags[sequence.index])

    def _processed(self, unfinished: list[Sequence], logits: dict[int, Logits]) -> Logits:
        """Return the scores (rows, n_vocab) after all processors."""
        if self._scores is None:
            n_vocab = len(logits[unfinished[0].index])
            self._scores = np.zeros((len(self._sequences), n_vocab), np.float32)
        for each in unfinished:
            self._scores[each.index] = _sampler(each).process(logits[each.index], each)
        return self._hooks.processed(self._given, self._scores)

    def _kept_scores(self, unfinished: list[Sequence]) -> Scores | None:
        """Return the scores of each step, NaN where a row is over; None if they are not kept."""
        recorders = {
            each.index: recorder
            for each in unfinished
            for recorder in each.recorders
            if isinstance(recorder, StepRecorder) and recorder.scores
        }
        if not recorders or not self._hooks.stopping_criteria:
            return None
        assert self._scores is not None
        scores = np.full_like(self._scores, np.nan)
        for index, recorder in recorders.items():
            scores[index] = recorder.scores[-1]
        self._steps.append(scores)
        return tuple(self._steps)


def _sampler(sequence: Sequence) -> Sampler:
    assert isinstance(sequence.sampler, Sampler)
    return sequence.sampler
