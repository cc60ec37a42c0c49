"""How the sequences of one request turn logits into tokens: its decoding strategy.

Sampling chooses one token per sequence and pass. Another strategy may look at all sequences of the
request together and copy them (beams), or give a sequence a draft and accept several of its tokens
after one pass (speculation): the engine runs the passes, and returns the KV of rejected tokens.

A constraint may leave no choice. What must come next needs no logits: after a token that was chosen
all those that follow by force are accepted at once, and go through the next pass together with it.
Where each step's logits are recorded, they go through it as a draft: the pass then gives the logits
before each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from localgen.engine.backend import Logits
from localgen.engine.constraint import complete_masks, prepare_masks
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

    def should_stop(self) -> bool:
        """Whether a call was interrupted, cancelled or ran out of time: what takes long should end
        soon."""

    def count_drafting(self, seconds: float) -> None:
        """Count time for making drafts, and not for choosing tokens."""

    def accept(self, sequence: Sequence, token_id: int) -> bool:
        """Add a token to a sequence; False if that finishes it, and no more may be added."""

    def rollback(self, sequence: Sequence, n_tokens: int) -> None:
        """Take the last ``n_tokens`` new tokens of a sequence back, and return their KV."""

    def fork(self, sequence: Sequence) -> Sequence:
        """Add an exact copy of an unfinished sequence to the request, KV included."""

    def replace(self, sequence: Sequence, source: Sequence) -> None:
        """Make an unfinished sequence a copy of another one of its group, KV included; its random
        stream stays its own."""

    def changing(self, sequence: Sequence | None) -> None:
        """Declare that state which belongs together is being changed, until this is called with
        None: an error from elsewhere meanwhile, such as Ctrl-C, ends the sequence's request."""

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
        constrained = []
        for output in outputs:
            sequence = output.sequence
            if sequence.constraint is not None:
                constrained.append(output)
                continue
            if sequence.n_pending:
                continue  # logits of a part of its prompt
            step.accept(sequence, sequence.sampler.sample(output.logits[-1], sequence))
        if constrained:
            make_masks(needing_mask(constrained))
            unfinished = [each.sequence for each in constrained if _advance(each, step)]
            begin_masks(each for each in unfinished if each.sampler.needs_mask)


def choose(row: Logits, sequence: Sequence) -> int:
    """Return the next token by a row of logits (n_vocab,): the forced one, or the sampler's."""
    constraint = sequence.constraint
    forced = None if constraint is None else constraint.forced()
    if not forced:
        return sequence.sampler.sample(row, sequence)
    assert constraint is not None
    constraint.n_forced += 1
    token_id = forced[0]
    for recorder in sequence.recorders:
        recorder.record(row, lambda: sequence.sampler.scores(row, sequence), token_id)
    return token_id


def force(sequence: Sequence, step: Step) -> bool:
    """Let the tokens that must come next go through the next pass with the last one; False if they
    finish the sequence."""
    constraint = sequence.constraint
    if constraint is None:
        return True
    if sequence.recorders:
        sequence.draft = tuple(constraint.forced())
        return True
    while forced := constraint.forced():
        constraint.n_forced += 1
        if not step.accept(sequence, forced[0]):
            return False
    return True


def needing_mask(outputs: Iterable[Output]) -> Iterator[Sequence]:
    """Return the sequences whose next token is sampled with a mask."""
    for output in outputs:
        sequence = output.sequence
        is_ready = sequence.n_pending <= 0 and not output.draft
        if is_ready and sequence.constraint is not None and sequence.sampler.needs_mask:
            yield sequence


def make_masks(sequences: Iterable[Sequence]) -> None:
    """Make the masks that these sequences need now, together, unless they were begun."""
    complete_masks(each.constraint for each in sequences if each.constraint is not None)


def begin_masks(sequences: Iterable[Sequence]) -> None:
    """Begin to make the masks that will be needed after the next pass, while the model computes."""
    prepare_masks(
        each.constraint for each in sequences if each.constraint is not None and not each.draft
    )


def _advance(output: Output, step: Step) -> bool:
    """Accept what a pass gives a sequence with a constraint; False if that finishes it, or if there
    was nothing to accept."""
    sequence, n_drafted = output.sequence, len(output.draft)
    if sequence.n_pending > 0:
        return False  # logits of a part of its prompt
    assert sequence.constraint is not None
    sequence.constraint.n_passes += 1
    for number, row in enumerate(output.logits[len(output.logits) - n_drafted - 1 :]):
        token_id = choose(row, sequence)
        if not step.accept(sequence, token_id):
            return False
        if number < n_drafted and token_id != output.draft[number]:
            break
    return force(sequence, step)
