"""Constraints beside token healing: the text of a constraint begins where the prompt ends.

While the end of a prompt is spelled again, a constraint sees nothing of it. The token that goes on
beyond it is split there: the constraint gets the bytes after the prompt, as tokens that spell them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from localgen.engine.constraint import Matcher, PackedMask
from localgen.generation.healing import PromptEnd


class HealedMatcher:
    """A matcher behind the end of a prompt, for all tokens from there on; a ``Matcher`` itself."""

    def __init__(self, matcher: Matcher, end: PromptEnd) -> None:
        self._matcher = matcher
        self._end = end
        self._n_told: list[int] = []  # of each token: how many the inner matcher got for it
        self.is_healing = True

    @property
    def inner(self) -> Matcher:
        """The matcher of the text after the prompt."""
        return self._matcher

    def accept(self, token_id: int) -> None:
        told = self._told(token_id)
        for each in told:
            self._matcher.accept(each)
        self._n_told.append(len(told))
        self._look()

    def _told(self, token_id: int) -> list[int]:
        """Return what the inner matcher gets for a token."""
        if not self.is_healing:
            return [token_id]
        n_spelled = len(self._n_told)
        if token_id == self._end.token_ids[n_spelled]:
            return []
        return self._end.split_beyond(n_spelled, token_id) or [token_id]

    def rollback(self, n_tokens: int) -> None:
        first = len(self._n_told) - n_tokens
        self._matcher.rollback(sum(self._n_told[first:]))
        del self._n_told[first:]
        self._look()

    def _look(self) -> None:
        n_own = len(self._end.token_ids)
        self.is_healing = len(self._n_told) < n_own and not any(self._n_told[:n_own])

    def mask(self) -> PackedMask:
        if not self.is_healing:
            return self._matcher.mask()
        n_spelled = len(self._n_told)
        inner = np.unpackbits(self._matcher.mask(), bitorder="little").view(np.bool_)
        allowed = np.zeros_like(inner)
        allowed[self._end.token_ids[n_spelled]] = True
        for token_id, told in self._end.beyond(n_spelled):
            allowed[token_id] = inner[told[0]] and self._follows(told[1:], told[0])
        return np.packbits(allowed, bitorder="little")

    def _follows(self, rest: Sequence[int], first: int) -> bool:
        """Return whether the inner matcher allows tokens after the ``first``, which it allows."""
        if not rest:
            return True
        trial = self._matcher.fork()
        trial.accept(first)
        for token_id in rest:
            if not trial.mask()[token_id // 8] >> token_id % 8 & 1:
                return False
            trial.accept(token_id)
        return True

    def forced_tokens(self) -> Sequence[int]:
        return () if self.is_healing else self._matcher.forced_tokens()

    def n_allowed(self, token_ids: Sequence[int]) -> int:
        """None while the prompt's end is spelled: what may follow is known a token at a time."""
        return 0 if self.is_healing else self._matcher.n_allowed(token_ids)

    @property
    def is_free(self) -> bool:
        return not self.is_healing and self._matcher.is_free

    @property
    def may_end(self) -> bool:
        return not self.is_healing and self._matcher.may_end

    @property
    def is_done(self) -> bool:
        return not self.is_healing and self._matcher.is_done

    def fork(self) -> HealedMatcher:
        twin = HealedMatcher(self._matcher.fork(), self._end)
        twin._n_told, twin.is_healing = list(self._n_told), self.is_healing
        return twin
