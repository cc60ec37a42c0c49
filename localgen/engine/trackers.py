"""State of one sequence that follows its tokens: what has been seen, what may come next.

Token counts, the text with its stop strings, and grammars are trackers. A sequence tells all of
them each token, takes tokens back, and copies them when it forks.
"""

from __future__ import annotations

from array import array
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from localgen.engine.backend import TokenIds

Mask = npt.NDArray[np.bool_]


class Tracker(Protocol):
    """Follows the new tokens of one sequence."""

    @property
    def stops(self) -> bool:
        """Whether the sequence ends with the last accepted token (finish reason "stop")."""

    def accept(self, token_id: int) -> None:
        """Follow one more token."""

    def rollback(self, n_tokens: int) -> None:
        """Take the last ``n_tokens`` accepted tokens back, at most as many as were accepted."""

    def mask(self) -> Mask | None:
        """Return the tokens that may come next, bool (n_vocab,); None if all may."""

    def copy(self) -> Tracker:
        """Return a tracker in the same state that goes its own way from here."""


@runtime_checkable
class Constraint(Tracker, Protocol):
    """A tracker whose mask may leave no token once the other options are applied."""

    @property
    def requirement(self) -> str:
        """What the mask is for, as the clause of an error message."""


class TokenCounts:
    """Counts the tokens of a sequence, for penalties; never stops it and masks nothing.

    ``seen`` (n,) int64: distinct ids of prompt and new tokens, in the order in which they came.
    ``generated`` (n,) float32: how often each was generated (the prompt does not count).
    """

    stops = False

    def __init__(self, prompt_ids: TokenIds, capacity: int) -> None:
        """capacity: the most tokens that will be accepted."""
        distinct = np.unique(prompt_ids).astype(np.int64)
        self._n_in_prompt = len(distinct)
        self._index_of = {token_id: index for index, token_id in enumerate(distinct.tolist())}
        self._history: list[int] = []
        # Written a number at a time, which NumPy is slow at, and read as its arrays.
        self._ids = array("q", distinct.tobytes() + bytes(8 * capacity))
        self._counts = array("f", bytes(4 * len(self._ids)))
        self._view()

    def _view(self) -> None:
        self._all_ids = np.frombuffer(self._ids, np.int64)
        self._all_counts = np.frombuffer(self._counts, np.float32)

    @property
    def seen(self) -> npt.NDArray[np.int64]:
        return self._all_ids[: len(self._index_of)]

    @property
    def generated(self) -> npt.NDArray[np.float32]:
        return self._all_counts[: len(self._index_of)]

    def accept(self, token_id: int) -> None:
        index = self._index_of.setdefault(token_id, len(self._index_of))
        self._ids[index] = token_id
        self._counts[index] += 1.0
        self._history.append(token_id)

    def rollback(self, n_tokens: int) -> None:
        for _ in range(n_tokens):
            token_id = self._history.pop()
            index = self._index_of[token_id]
            self._counts[index] -= 1.0
            # Ids stand in the order in which they came, so a new one is the last when it goes.
            if not self._counts[index] and index >= self._n_in_prompt:
                del self._index_of[token_id]

    def mask(self) -> None:
        return None

    def copy(self) -> TokenCounts:
        clone = object.__new__(TokenCounts)
        clone._n_in_prompt = self._n_in_prompt
        clone._index_of, clone._history = dict(self._index_of), list(self._history)
        clone._ids, clone._counts = self._ids[:], self._counts[:]
        clone._view()
        return clone
