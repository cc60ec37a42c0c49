"""A matcher that knows of one token at a time whether it may come next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

Matcher = TypeVar("Matcher", bound="StepMatcher")


class StepMatcher(ABC):
    """What follows a reply token by token; the base of those that decide by their state."""

    @abstractmethod
    def allows(self, token_id: int) -> bool:
        """Return whether this token may come next."""

    @abstractmethod
    def accept(self, token_id: int) -> None:
        """Follow one more token. Raises ValueError for one that is not allowed."""

    @abstractmethod
    def fork(self: Matcher) -> Matcher:
        """Return a matcher in the same state that goes its own way from here."""

    def n_allowed(self, token_ids: Sequence[int]) -> int:
        """Return how many of these tokens, from the first on, may come one after the other."""
        if len(token_ids) == 1:  # needs no twin
            return int(self.allows(token_ids[0]))
        twin = self.fork()
        for index, token_id in enumerate(token_ids):
            if not twin.allows(token_id):
                return index
            twin.accept(token_id)
        return len(token_ids)
