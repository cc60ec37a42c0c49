"""Drafts without a model: what followed the last tokens where the sequence had them before."""

from __future__ import annotations

from collections.abc import Callable

from localgen.engine.backend import TokenIds
from localgen.engine.pass_costs import PassCosts
from localgen.engine.sequence import Sequence
from localgen.engine.speculation import NO_DRAFT, Draft, decline
from localgen.engine.suffix_index import MatchChances, SuffixIndex

_NO_MATCH = "nothing earlier in the text ends like its last tokens"


class LookupTracker(SuffixIndex):
    """The index of a sequence that asked for drafts of at most ``n_drafted`` tokens."""

    def __init__(
        self,
        prompt_ids: TokenIds,
        max_ngram: int,
        n_drafted: int,
        chances: MatchChances | None = None,
    ) -> None:
        super().__init__(prompt_ids.tolist(), max_ngram, chances)
        self.n_drafted = n_drafted

    def copy(self) -> LookupTracker:
        clone = object.__new__(LookupTracker)
        self._copy_to(clone)
        clone.n_drafted = self.n_drafted
        return clone


class LookupDrafter:
    """Drafts what followed the last tokens of a sequence before, for those that asked for it.

    Implements ``speculation.Drafter``.
    """

    def propose(
        self, sequences: list[Sequence], costs: PassCosts, should_stop: Callable[[], bool]
    ) -> list[Draft]:
        return [_draft(sequence) for sequence in sequences]

    def verified(self, sequence: Sequence, draft: Draft, n_accepted: int) -> None:
        """The index learns from every token, drafted or not."""


def _draft(sequence: Sequence) -> Draft:
    tracker = next((t for t in sequence.trackers if isinstance(t, LookupTracker)), None)
    if tracker is None or tracker.match is None:
        decline(sequence, _NO_MATCH)
        return NO_DRAFT
    # A pass gives one token more than its draft.
    n_most = min(tracker.n_drafted, len(sequence.tokens) - sequence.n_tokens - 1)
    token_ids, chances = tracker.guess(n_most)
    # Nothing follows an end, and the pass chooses the end itself after the last token before it.
    ends = sequence.eos_token_ids
    n_tokens = next((n for n, each in enumerate(token_ids) if each in ends), len(token_ids))
    return Draft(tuple(token_ids), tuple(chances)).first(n_tokens)
