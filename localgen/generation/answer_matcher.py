"""A constraint on the answer of a reply that begins with reasoning.

The reasoning is free, but it must end before the reply does. Between its end mark and the answer
may stand some white space, as models write it, which the constraint does not see.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from copy import copy
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from localgen.engine.constraint import Matcher, PackedMask
from localgen.generation.step_matcher import StepMatcher
from localgen.generation.thought_matcher import Thoughts
from localgen.text.byte_index import ByteIndex
from localgen.text.replies.thoughts import Place

# Tokens of white space before the answer: models write one empty line, as one token or as two.
_MOST_SPACES = 2

_Allowed = npt.NDArray[np.bool_]  # (n_vocab,)


class AnswerTokens:
    """Which tokens may end the reasoning, and which may follow its end mark.

    closes: the end mark. index: of the tokens that text is made of; a special token that is the
    mark ends just there.
    """

    def __init__(self, closes: bytes, index: ByteIndex, n_vocab: int) -> None:
        self._closes = closes
        self._index = index
        self._n_vocab = n_vocab

    @functools.cached_property
    def spaces(self) -> frozenset[int]:
        """The tokens of white space."""
        return frozenset(i for i, piece in enumerate(self._index.pieces) if piece.isspace())

    @functools.cached_property
    def space_mask(self) -> PackedMask:
        allowed = np.zeros(self._n_vocab, np.bool_)
        allowed[list(self.spaces)] = True
        return np.packbits(allowed, bitorder="little")

    def thought_mask(self, tail: bytes) -> PackedMask:
        """Return the tokens that may come in the reasoning after ``tail``: those in which the
        answer does not begin."""
        allowed = self._without_mark.copy()
        for size in range(1, len(self._closes)):
            if tail.endswith(self._closes[:size]):
                allowed &= self._after_part[size]
        return np.packbits(allowed, bitorder="little")

    @functools.cached_property
    def _without_mark(self) -> _Allowed:
        """Without the tokens that have the whole mark, and more than white space after it."""
        return self._all_but(
            [i for i, piece in enumerate(self._index.pieces) if self._goes_on(piece)]
        )

    @functools.cached_property
    def _after_part(self) -> list[_Allowed]:
        """After each number of the mark's bytes, without the tokens that go on beyond its end."""
        found = []
        for size in range(len(self._closes)):
            rest = self._closes[size:]
            beyond = self._index.extending(rest).tolist()
            pieces = ((i, self._index.pieces[i][len(rest) :]) for i in beyond)
            found.append(self._all_but([i for i, piece in pieces if not piece.isspace()]))
        return found

    def _goes_on(self, piece: bytes) -> bool:
        return self._closes in piece and bool(piece.split(self._closes, 1)[1].strip())

    def _all_but(self, token_ids: list[int]) -> _Allowed:
        allowed = np.ones(self._n_vocab, np.bool_)
        allowed[token_ids] = False
        return allowed


class _State(NamedTuple):
    """Where the reply is: in its "thoughts", after their end mark ("gap"), or in the "answer".

    place: in the thoughts. forced: tokens that must come before anything else. n_spaces: tokens of
    the gap. is_told: whether the inner matcher got the last token.
    """

    stage: Literal["thoughts", "gap", "answer"]
    place: Place
    forced: tuple[int, ...] = ()
    n_spaces: int = 0
    is_told: bool = False


class AnswerMatcher(StepMatcher):
    """Follows a reply; a ``Matcher`` itself, around the one of the answer."""

    def __init__(self, thoughts: Thoughts, tokens: AnswerTokens, inner: Matcher) -> None:
        self._thoughts = thoughts
        self._tokens = tokens
        self._inner = inner
        self._states = [_State("thoughts", thoughts.begins, thoughts.opening())]

    @property
    def inner(self) -> Matcher:
        """The matcher of the answer."""
        return self._inner

    @property
    def is_in_answer(self) -> bool:
        """Whether the inner matcher decides what may come next."""
        state = self._states[-1]
        return state.stage != "thoughts" and not state.forced and not self._is_in_gap(state)

    def accept(self, token_id: int) -> None:
        state = self._states[-1]
        if state.forced:
            self._states.append(self._after_forced(state, token_id))
        elif state.stage == "thoughts":
            self._states.append(self._after_thought(state.place, token_id))
        else:
            self._states.append(self._after_mark(state, token_id))

    def _after_forced(self, state: _State, token_id: int) -> _State:
        if token_id != state.forced[0]:
            raise ValueError(f"token {token_id} is not the one of the mark that must come here")
        place = state.place
        if state.stage == "thoughts":
            place = self._follow(place, token_id)
        return _State(state.stage, place, state.forced[1:])

    def _after_thought(self, place: Place, token_id: int) -> _State:
        following = self._follow(place, token_id)
        if following.is_thinking:
            return _State("thoughts", following)
        marks = self._thoughts.marks
        data = place.tail + self._thoughts.token_bytes(token_id)
        _, _, rest = data.partition(marks.closes)
        if rest.strip():
            raise ValueError(f"token {token_id} goes on beyond the mark that ends the reasoning")
        answer = marks.closings[-1][len(marks.closes) :].decode()
        if answer:
            return _State("answer", following, tuple(self._thoughts.encode(token_id, answer)))
        return _State("gap", following, n_spaces=1 if rest else 0)

    def _after_mark(self, state: _State, token_id: int) -> _State:
        if self._is_in_gap(state) and self._is_space_before_answer(token_id):
            return _State("gap", state.place, n_spaces=state.n_spaces + 1)
        self._inner.accept(token_id)
        return _State("answer", state.place, is_told=True)

    def _is_in_gap(self, state: _State) -> bool:
        return state.stage == "gap" and state.n_spaces < _MOST_SPACES

    def _follow(self, place: Place, token_id: int) -> Place:
        return self._thoughts.marks.follow(place, self._thoughts.token_bytes(token_id))

    def _is_space_before_answer(self, token_id: int) -> bool:
        return token_id in self._tokens.spaces and not self._inner.n_allowed([token_id])

    def rollback(self, n_tokens: int) -> None:
        first = len(self._states) - n_tokens
        self._inner.rollback(sum(state.is_told for state in self._states[first:]))
        del self._states[first:]

    def mask(self) -> PackedMask:
        state = self._states[-1]
        if state.forced:
            return self._thoughts.only(state.forced)
        if state.stage == "thoughts":
            return self._tokens.thought_mask(state.place.tail)
        mask = self._inner.mask()
        return mask | self._tokens.space_mask if self._is_in_gap(state) else mask

    def forced_tokens(self) -> Sequence[int]:
        state = self._states[-1]
        if not self.is_in_answer:
            return state.forced
        return self._inner.forced_tokens()

    def n_allowed(self, token_ids: Sequence[int]) -> int:
        if self.is_in_answer:
            return self._inner.n_allowed(token_ids)
        return super().n_allowed(token_ids)

    def allows(self, token_id: int) -> bool:
        return bool(self.mask()[token_id // 8] >> token_id % 8 & 1)

    @property
    def is_free(self) -> bool:
        return self.is_in_answer and self._inner.is_free

    @property
    def may_end(self) -> bool:
        state = self._states[-1]
        return state.stage != "thoughts" and not state.forced and self._inner.may_end

    @property
    def is_done(self) -> bool:
        return self.is_in_answer and self._inner.is_done

    def fork(self) -> AnswerMatcher:
        twin = copy(self)
        twin._inner = self._inner.fork()
        twin._states = list(self._states)
        return twin
