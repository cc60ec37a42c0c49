"""How the sequences of one request turn logits into tokens: its decoding strategy.

Sampling chooses one token per sequence and pass. Another strategy may look at all sequences of the
request together and copy them (beams), or give a sequence a draft and accept several of its tokens
after one pass (speculation): the engine runs the passes, and returns the KV of rejected tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from localgen.engine.backend import Logits
from localgen.engine.sequence import Sequence


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """What one pass gave one sequence.

    logits: float32 (n, n_vocab), borrowed until the next pass, writable: the rows that the sequence
    wanted, the last one after its last token or, with a draft, after each token of it too. draft:
    the tokens that went through the pass after the sequence's own.
    """

    sequence: Sequence
    logits: Logits
    draft: tuple[int, ...] = ()


class Step(Protocol):
    """What a strategy may do to the sequences of its request between two passes."""

    @property
    def last_pass(self) -> tuple[int, float | None]:
        """The tokens of the pass that was just run, those of other requests included, and its
        seconds; None if a prompt was computed in it."""

    def accept(self, sequence: Sequence, token_id: int) -> bool:
        """Add a token to a sequence; False if that finishes it, and no more may be added."""

    def rollback(self, sequence: Sequence, n_tokens: int) -> None:
        """Take the last ``n_tokens`` new tokens of a sequence back, and return their KV."""

    def fork(self, sequence: Sequence) -> Sequence:
        """Add an exact copy of an unfinished sequence to the request, KV included."""

    def replace(self, sequence: Sequence, source: Sequence) -> None:
        """Make an unfinished sequence a copy of another one of its group, KV included; its random
        stream stays its own."""

    def drop(self, sequence: Sequence) -> None:
        """End an unfinished sequence, whatever its tokens are."""


class DecodingStrategy(Protocol):
    """Decodes the sequences of one request; it may keep state between passes."""

    def advance(self, outputs: list[Output], step: Step) -> None:
        """Use what a pass gave: accept tokens, and set drafts for the next pass.

        outputs: of those sequences of the request that the pass gave logits, in seq_id order; empty
        after some of its sequences ran out of time. A sequence of which no token is accepted rests
        until ``advance`` gives it one.
        """


class SamplingStrategy:
    """Chooses one token for each sequence by its own sampler."""

    def advance(self, outputs: list[Output], step: Step) -> None:
        for output in outputs:
            sequence = output.sequence
            if sequence.n_pending:
                continue  # logits of a part of its prompt
            step.accept(sequence, sequence.sampler.sample(output.logits[-1], sequence))
