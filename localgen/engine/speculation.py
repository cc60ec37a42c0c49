"""Speculation: several tokens of a sequence in one pass, where a drafter can guess them.

A draft goes through the pass after the sequence's own token, so that the pass gives the logits
after each of its tokens too. From these rows the sequence's sampler chooses token after token, with
the state and the random numbers that it has without speculation, as long as each choice is the
token that was drafted. So a draft decides how fast a text comes, never which text. A draft that was
drawn from a distribution of its own is verified by ``acceptance`` instead: the text is another one
then, with the same distribution.

Sequences with cells of their own get drafts of one length, since llama.cpp computes a pass in parts
with equally many tokens of each: shorter drafts are filled up with a token that is hardly ever
right.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from localgen.engine.acceptance import Distribution, is_kept, residual
from localgen.engine.backend import Logits
from localgen.engine.decoding import (
    Output,
    Step,
    begin_masks,
    choose,
    force,
    make_masks,
    needing_mask,
)
from localgen.engine.pass_costs import PassCosts, best_lengths, equal_lengths
from localgen.engine.sequence import Sequence

# Drafts that look good but do not pay by the measured times are tried again after so many passes:
# a time may have been bad by chance.
_RETRY_AFTER = 64
_LOOKS_GOOD = 0.5
_TOO_LONG = "a pass with a draft would take longer than the draft is likely to save"


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """Tokens that may follow a sequence.

    chances: for each of them, how likely it is accepted if all before it are. probabilities: for
    each of them, what it was drawn from; empty if it was not drawn, but is what the sequence's own
    sampler is expected to choose.
    """

    token_ids: tuple[int, ...] = ()
    chances: tuple[float, ...] = ()
    probabilities: tuple[Distribution, ...] = ()

    def first(self, n_tokens: int) -> Draft:
        """Return the first ``n_tokens`` of a draft."""
        return Draft(
            self.token_ids[:n_tokens], self.chances[:n_tokens], self.probabilities[:n_tokens]
        )


NO_DRAFT = Draft()


class Drafter(Protocol):
    """Guesses the next tokens of the sequences of one request."""

    def propose(
        self, sequences: list[Sequence], costs: PassCosts, should_stop: Callable[[], bool]
    ) -> list[Draft]:
        """Return a draft for each of these sequences, which go on; ``NO_DRAFT`` for no guess.

        A draft may be longer than what is worth a place in the next pass: the strategy shortens it
        by its chances. Where there is none, ``decline`` has the reason. costs: what passes took so
        far, for a drafter whose guesses cost something.
        should_stop: asked now and then by a drafter that computes for long; what it has is enough.
        """

    def verified(self, sequence: Sequence, draft: Draft, n_accepted: int) -> None:
        """Take note of how many tokens of a draft, as far as it was in a pass, were accepted."""


class SpeculativeStrategy:
    """Chooses tokens for each sequence by its own sampler, several in a pass where drafts agree.

    costs: what passes take, where that is known already. Implements ``DecodingStrategy``.
    """

    def __init__(self, drafter: Drafter, costs: PassCosts | None = None) -> None:
        self._drafter = drafter
        self._costs = costs or PassCosts()
        self._drafts: dict[Sequence, Draft] = {}
        self._n_declined = 0

    def advance(self, outputs: list[Output], step: Step) -> None:
        if not outputs:
            return
        drafts, self._drafts = self._drafts, {}
        n_own = sum(1 + len(each.draft) for each in outputs)
        n_tokens, seconds = step.last_pass
        is_even = n_tokens == n_own and len({len(each.draft) for each in outputs}) == 1
        # A pass that is computed in parts is no measure of one of that size.
        if seconds is not None and (is_even or outputs[0].sequence.kv_unified):
            self._costs.measured(n_tokens, seconds)
        make_masks(needing_mask(outputs))
        unfinished = [
            output.sequence
            for output in outputs
            # A draft is in the KV cache already, so there may be fewer than no tokens pending.
            if output.sequence.n_pending <= 0
            and self._verify(output, drafts.get(output.sequence, NO_DRAFT), step)
        ]
        unfinished = self._forced(unfinished, step)
        if unfinished:
            n_others = max(0, n_tokens - n_own) if seconds is not None else 0
            self._draft(unfinished, n_others, step)

    def _forced(self, sequences: list[Sequence], step: Step) -> list[Sequence]:
        """Let constraints force tokens; return the sequences that have a choice next."""
        choosing, going_on = [], []
        for sequence in sequences:
            n_tokens = sequence.n_tokens
            if not force(sequence, step):
                continue
            going_on.append(sequence)
            if sequence.n_tokens == n_tokens and not sequence.draft:
                choosing.append(sequence)
        begin_masks(each for each in going_on if each.sampler.needs_mask)
        return choosing

    def _verify(self, output: Output, draft: Draft, step: Step) -> bool:
        """Accept tokens as long as they are those of the draft, and one more; False if that
        finishes the sequence."""
        sequence, n_drafted = output.sequence, len(output.draft)
        rows = output.logits[len(output.logits) - n_drafted - 1 :]
        n_accepted, goes_on = 0, True
        for number, row in enumerate(rows):
            if number < n_drafted and draft.probabilities and not _is_forced(sequence):
                token_id = _kept_or_replaced(row, sequence, draft, number)
            else:
                token_id = choose(row, sequence)
            goes_on = step.accept(sequence, token_id)
            if number == n_drafted or token_id != output.draft[number]:
                break
            n_accepted += 1
            if not goes_on:
                break
        n_drafted = min(n_drafted, len(draft.token_ids))  # without what filled the pass
        n_accepted = min(n_accepted, n_drafted)
        speculation = sequence.speculation
        if speculation is not None:
            speculation.n_passes += 1
        if not draft.token_ids:  # what was forced is no guess
            return goes_on
        if speculation is not None:
            speculation.n_drafted += n_drafted
            speculation.n_accepted += n_accepted
        if n_drafted:
            self._drafter.verified(sequence, draft.first(n_drafted), n_accepted)
        return goes_on

    def _draft(self, sequences: list[Sequence], n_others: int, step: Step) -> None:
        """Give these sequences the drafts that are worth their place in the next pass."""
        started = time.perf_counter()
        drafts = self._drafter.propose(sequences, self._costs, step.should_stop)
        step.count_drafting(time.perf_counter() - started)
        drafts = [_allowed(*each) for each in zip(sequences, drafts, strict=True)]
        if not any(draft.token_ids for draft in drafts):
            return
        asked = [each for each in zip(sequences, drafts, strict=True) if _takes_drafts(each[0])]
        choose = best_lengths if sequences[0].kv_unified else equal_lengths
        n_others += len(sequences) - len(asked)
        lengths = self._lengths(choose, [draft.chances for _, draft in asked], n_others)
        for (sequence, draft), length in zip(asked, lengths, strict=True):
            token_ids = draft.token_ids
            # The length of a drawn one must not depend on tokens that are left out: those that went
            # in would not be what was drawn from the distribution.
            if not draft.probabilities:
                filling = (sequence.last_token,) * (length - len(token_ids))
                token_ids = token_ids[:length] + filling
            if token_ids:
                sequence.draft = token_ids
                self._drafts[sequence] = draft
            elif draft.token_ids:
                decline(sequence, _TOO_LONG)

    def _lengths(
        self,
        choose: Callable[[list[tuple[float, ...]], PassCosts, int], list[int]],
        chances: list[tuple[float, ...]],
        n_others: int,
    ) -> list[int]:
        lengths = choose(chances, self._costs, n_others)
        if any(lengths):
            self._n_declined = 0
        elif any(row and row[0] >= _LOOKS_GOOD for row in chances):
            self._n_declined += 1
            if self._n_declined == _RETRY_AFTER:
                self._n_declined = 0
                return choose(chances, PassCosts(), n_others)
        return lengths


def decline(sequence: Sequence, reason: str) -> None:
    """Record why the next pass has no draft of a sequence, if speculation was asked for."""
    if sequence.speculation is not None:
        sequence.speculation.declined_because = reason


def _is_forced(sequence: Sequence) -> bool:
    return sequence.constraint is not None and bool(sequence.constraint.forced())


def _takes_drafts(sequence: Sequence) -> bool:
    return sequence.speculation is not None and sequence.speculation.off_because is None


def _allowed(sequence: Sequence, draft: Draft) -> Draft:
    """Return a draft without what the sequence's constraint does not allow.

    A drawn one stays as it is: where it is cut would depend on what was drawn.
    """
    if sequence.constraint is None or draft.probabilities or not draft.token_ids:
        return draft
    return draft.first(sequence.constraint.n_allowed(draft.token_ids))


def _kept_or_replaced(row: Logits, sequence: Sequence, draft: Draft, number: int) -> int:
    """Return a drawn token, or what is accepted instead; see ``acceptance``."""
    sampler = sequence.sampler
    p, q = sampler.distribution(row, sequence), draft.probabilities[number]
    token_id = draft.token_ids[number]
    if not is_kept(p, q, token_id, sequence.uniform()):
        token_id = residual(p, q).draw(sequence.uniform())
    for recorder in sequence.recorders:
        recorder.record(row, lambda: sampler.scores(row, sequence), token_id)
    return token_id
