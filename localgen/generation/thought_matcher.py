"""A limit on the tokens of the reasoning: when it is reached, the mark that ends it must come.

The reply is free before and after that, or follows another matcher, which gets all of its tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from localgen.engine.constraint import Matcher, PackedMask
from localgen.generation.step_matcher import StepMatcher
from localgen.text.replies.thoughts import Place, ThoughtMarks


@dataclass(frozen=True, slots=True, kw_only=True)
class Thoughts:
    """The reasoning of a reply, as tokens.

    begins: where the reply begins, after the token ``last_id``. token_bytes: of every token, marks
    included. encode: returns the tokens of a text after a token.
    """

    marks: ThoughtMarks
    begins: Place
    last_id: int
    token_bytes: Callable[[int], bytes]
    encode: Callable[[int, str], Sequence[int]]
    n_vocab: int

    def opening(self) -> tuple[int, ...]:
        """Return the tokens that begin the reasoning; none if the prompt has begun it."""
        if self.begins.is_thinking:
            return ()
        return tuple(self.encode(self.last_id, self.marks.opens.decode()))

    def ending(self, place: Place, n_before: int, last_id: int) -> tuple[int, ...]:
        """Return the tokens that end the reasoning at a place, after the token ``last_id``.

        n_before: how many times it was ended before.
        """
        return tuple(self.encode(last_id, self.marks.closing(place, n_before).decode()))

    def only(self, token_ids: Sequence[int]) -> PackedMask:
        """Return the mask that allows the first of some tokens."""
        allowed = np.zeros(self.n_vocab, np.bool_)
        allowed[list(token_ids[:1])] = True
        return np.packbits(allowed, bitorder="little")


class _State(NamedTuple):
    """place: where the reply is. n_thought: tokens inside the reasoning. n_ended: how many times it
    was ended. ending: the tokens that must come to end it."""

    place: Place
    n_thought: int = 0
    n_ended: int = 0
    ending: tuple[int, ...] = ()


class ThoughtMatcher(StepMatcher):
    """Follows a reply; a ``Matcher`` itself, around another one or none.

    limit: the most tokens of the reasoning.

    What is not complete at the limit is finished first: a character, a call inside the reasoning,
    and whatever the other matcher does not let end there.
    """

    def __init__(self, thoughts: Thoughts, limit: int, inner: Matcher | None = None) -> None:
        self._thoughts = thoughts
        self._limit = limit
        self._inner = inner
        self._states = [self._ended(_State(thoughts.begins), thoughts.last_id)]

    @property
    def inner(self) -> Matcher | None:
        return self._inner

    @property
    def is_ending(self) -> bool:
        """Whether the reasoning is being ended."""
        return bool(self._states[-1].ending)

    @property
    def is_free(self) -> bool:
        return self._inner is None and not self.is_ending

    def accept(self, token_id: int) -> None:
        state = self._states[-1]
        if state.ending and token_id != state.ending[0]:
            raise ValueError(f"token {token_id} is not the one that ends the reasoning here")
        if self._inner is not None:
            self._inner.accept(token_id)
        self._states.append(self._after(state, token_id))

    def _after(self, state: _State, token_id: int) -> _State:
        """Return the state after one more token, which the inner matcher has."""
        place = self._thoughts.marks.follow(state.place, self._thoughts.token_bytes(token_id))
        is_thought = state.place.is_thinking and place.is_thinking and not state.ending
        n_thought = state.n_thought + is_thought
        return self._ended(_State(place, n_thought, state.n_ended, state.ending[1:]), token_id)

    def _ended(self, state: _State, last_id: int) -> _State:
        """Return a state with the tokens that end the reasoning, if its limit is reached."""
        place = state.place
        is_over = state.n_thought >= self._limit
        if state.ending or not is_over or not self._thoughts.marks.may_close(place):
            return state
        ending = self._thoughts.ending(place, state.n_ended, last_id)
        if self._inner is not None and self._inner.n_allowed(ending) < len(ending):
            return state
        return state._replace(ending=ending, n_ended=state.n_ended + 1)

    def rollback(self, n_tokens: int) -> None:
        del self._states[len(self._states) - n_tokens :]
        if self._inner is not None:
            self._inner.rollback(n_tokens)

    def mask(self) -> PackedMask:
        ending = self._states[-1].ending
        if self._inner is not None and not ending:
            return self._inner.mask()
        if ending:
            return self._thoughts.only(ending)
        return np.packbits(np.ones(self._thoughts.n_vocab, np.bool_), bitorder="little")

    def forced_tokens(self) -> Sequence[int]:
        if ending := self._states[-1].ending:
            return ending
        return () if self._inner is None else self._inner.forced_tokens()

    def allows(self, token_id: int) -> bool:
        if ending := self._states[-1].ending:
            return token_id == ending[0]
        return self._inner is None or self._inner.n_allowed([token_id]) == 1

    @property
    def may_end(self) -> bool:
        return not self.is_ending and (self._inner is None or self._inner.may_end)

    @property
    def is_done(self) -> bool:
        return not self.is_ending and self._inner is not None and self._inner.is_done

    def fork(self) -> ThoughtMatcher:
        twin = copy(self)
        twin._inner = None if self._inner is None else self._inner.fork()
        twin._states = list(self._states)
        return twin
