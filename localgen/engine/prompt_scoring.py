"""Log-probabilities of the tokens of one text, with the likeliest ones beside them; no sampling.

The logits of tokens that the KV cache has are gone, so all but the first token are computed here:
they are put through the passes that other sequences run in, a part at a time.
"""

from __future__ import annotations

from localgen.engine.backend import Logits, TokenIds
from localgen.engine.decoding import Output, Step
from localgen.engine.recorders import LogprobRecorder, Top
from localgen.engine.sequence import Sequence

# A pass has so many bytes of its logits at most, so that others wait only shortly for the next.
_LOGIT_BYTES = 8 * 2**20


class PromptScoring:
    """Scores the tokens of one sequence. Implements ``DecodingStrategy``.

    token_ids: int32 (n,), of which the sequence has the first one as its prompt, with room for all
    others. steps: (token id, log-probability, likeliest) of each token after the first so far.
    """

    def __init__(self, token_ids: TokenIds, n_top: int, n_vocab: int) -> None:
        self._token_ids = token_ids
        self._recorder = LogprobRecorder(n_top)
        self._n_next = max(1, _LOGIT_BYTES // (4 * n_vocab))

    @property
    def steps(self) -> list[tuple[int, float, Top]]:
        return self._recorder.steps

    def advance(self, outputs: list[Output], step: Step) -> None:
        for output in outputs:
            self._record(output.logits)
            output.sequence.output_from = output.sequence.n_kv
            if output.sequence.n_pending <= 0:
                self._continue(output.sequence, step)

    def _record(self, rows: Logits) -> None:
        """Take the logits (k, n_vocab) after the next ``k`` tokens."""
        start = len(self.steps) + 1
        targets = self._token_ids[start : start + len(rows)].tolist()
        for row, token_id in zip(rows, targets, strict=True):
            self._recorder.record(row, lambda row=row: row, token_id)  # type: ignore[misc]

    def _continue(self, sequence: Sequence, step: Step) -> None:
        """Put the next tokens into the pass, the last one of the text excepted."""
        start = sequence.n_tokens
        following = self._token_ids[start : min(start + self._n_next, len(self._token_ids) - 1)]
        if not len(following):
            step.drop(sequence)
            return
        for token_id in following.tolist():
            step.accept(sequence, token_id)
        sequence.output_from = sequence.n_kv  # the logits after each of them
