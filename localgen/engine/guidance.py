"""Classifier-free guidance: beside each guided sequence runs a guide, without its prompt.

A guide begins with a negative prompt, or with the last token of the sequence's prompt, and then
gets the tokens of the sequence. Both go through the same passes, and the ``guidance_scale``
processor (``sampling/processors.py``) combines their logits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from localgen.engine.backend import Logits, TokenIds
from localgen.engine.decoding import DecodingStrategy, Output, Step
from localgen.engine.sampling.filters import log_softmax
from localgen.engine.sequence import Sequence
from localgen.engine.uniforms import UniformStream
from localgen.errors import DecodeError


def guide_for(sequence: Sequence, prompt_ids: TokenIds, index: int) -> Sequence:
    """Return the guide of a new sequence; it ends when the sequence does."""
    return Sequence(
        index=index,
        prompt_ids=prompt_ids,
        max_new_tokens=len(sequence.tokens) - sequence.n_prompt,
        eos_token_ids=frozenset(),
        sampler=sequence.sampler,
        uniform=UniformStream(0, 0),  # never drawn from
        stop_checks=(lambda _: sequence.finish_reason is not None,),
        deadline=sequence.deadline,
    )


class GuidanceStrategy:
    """Lets ``strategy`` choose tokens once a sequence and its guide both have their logits.

    guide_of: the guide of each guided sequence; the request has both, and perhaps others.
    Implements ``DecodingStrategy``.
    """

    def __init__(self, strategy: DecodingStrategy, guide_of: Mapping[Sequence, Sequence]) -> None:
        self._strategy = strategy
        self._guide_of = dict(guide_of)
        self._pairs = frozenset([*guide_of, *guide_of.values()])
        self._held: dict[Sequence, Logits] = {}  # of the one of a pair that waits for the other

    def advance(self, outputs: list[Output], step: Step) -> None:
        self._follow(step)  # an interrupt may have come between two tokens
        rows = {each.sequence: each.logits[-1] for each in outputs if not each.sequence.n_pending}
        ready = [each for each in outputs if each.sequence not in self._pairs]
        for sequence, guide in self._guide_of.items():
            if sequence.finish_reason is None and (pair := self._pair(sequence, guide, rows)):
                own, other = pair
                sequence.guide_logprobs = _logprobs(other, guide)
                ready.append(Output(sequence, own[None, :]))
        self._strategy.advance(ready, step)
        self._follow(step)

    def _pair(
        self, sequence: Sequence, guide: Sequence, rows: Mapping[Sequence, Logits]
    ) -> tuple[Logits, Logits] | None:
        """Return the logits of both; None if one has none yet, and those of the other are kept."""
        own = rows.get(sequence, self._held.get(sequence))
        other = rows.get(guide, self._held.get(guide))
        if own is not None and other is not None:
            self._held.pop(sequence, None)
            self._held.pop(guide, None)
            return own, other
        for each in (sequence, guide):
            if each in rows:
                self._held[each] = rows[each].copy()
        return None

    def _follow(self, step: Step) -> None:
        """Give each guide the tokens that its sequence has got."""
        for sequence, guide in self._guide_of.items():
            while guide.finish_reason is None and guide.n_new < sequence.n_new:
                step.accept(guide, int(sequence.new_token_ids[guide.n_new]))


def _logprobs(logits: Logits, guide: Sequence) -> Logits:
    if not math.isfinite(logits.max()):
        raise DecodeError(
            f"the model gave logits that are not finite after {guide.n_tokens} tokens of a "
            f"negative prompt; the weights may be damaged, or the KV cache type too imprecise"
        )
    return log_softmax(logits)
