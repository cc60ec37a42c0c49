"""A constraint behind a prompt's end that is spelled again: split tokens, rollback, copies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localgen.generation.healed_matcher import HealedMatcher
from localgen.generation.healing import HealingTracker, PromptEnd
from localgen.text.byte_index import ByteIndex
from tests.fakes import ChoiceMatcher

PIECES = [b"", b"a", b"b", b"c", b" ", b" a", b"ab", b"bc", b"abc", b" ab", b" abcab", b"bb"]
INDEX = ByteIndex(PIECES)
CHOICES = [b"bca", b"ba", b"cabb", b"c"]


def matcher(*prompt_end: bytes) -> HealedMatcher:
    ids = np.array([PIECES.index(each) for each in prompt_end], np.int32)
    return HealedMatcher(ChoiceMatcher(CHOICES, PIECES), PromptEnd(ids, INDEX))


def allowed(of: HealedMatcher) -> set[bytes]:
    bits = np.unpackbits(of.mask(), bitorder="little")
    return {PIECES[token_id] for token_id in np.flatnonzero(bits)}


def test_a_token_may_go_on_beyond_the_prompt_as_the_text_may_begin() -> None:
    """ "␣ab" is "b" of the text; "␣abcab" would be "bca" and a "b" that no choice has."""
    own = matcher(b" ", b"a")
    assert allowed(own) == {b" ", b" ab"}
    own.accept(PIECES.index(b" ab"))
    assert not own.is_healing
    assert allowed(own) == {b"a", b"c"}
    own.rollback(1)
    assert own.is_healing
    own.accept(PIECES.index(b" "))
    assert not own.may_end
    assert list(own.forced_tokens()) == []
    assert own.n_allowed([PIECES.index(b"abc")]) == 0
    assert allowed(own) == {b"a", b"ab", b"abc"}
    own.accept(PIECES.index(b"abc"))
    assert allowed(own) == {b"a"}
    assert own.n_allowed([PIECES.index(b"a"), PIECES.index(b"a")]) == 1
    own.accept(PIECES.index(b"a"))
    assert own.is_done


@given(
    st.lists(st.sampled_from([b" ", b"a", b" a", b"ab"]), min_size=1, max_size=3),
    st.lists(st.integers(-3, 9), max_size=20),
)
def test_the_text_after_the_prompt_is_a_choice(end: list[bytes], moves: list[int]) -> None:
    """A number ≥ 0 chooses an allowed token, one below takes as many back. What comes is what a
    matcher says that goes the same way alone."""
    own, tokens = matcher(*end), list[int]()
    healing = HealingTracker(PromptEnd(np.array([*map(PIECES.index, end)], np.int32), INDEX))
    for move in moves:
        twin = own.fork()
        if move < 0:
            n_back = min(-move, len(tokens))
            own.rollback(n_back)
            healing.rollback(n_back)
            del tokens[len(tokens) - n_back :]
        elif choices := sorted(allowed(own)):
            tokens.append(PIECES.index(choices[move % len(choices)]))
            own.accept(tokens[-1])
            healing.accept(tokens[-1])  # raises for what is not the prompt
        fresh = matcher(*end)
        for token_id in tokens:
            fresh.accept(token_id)
        assert allowed(own) == allowed(fresh)
        assert (own.may_end, own.is_done) == (fresh.may_end, fresh.is_done)
        assert own.is_healing == (not healing.is_done)
        if not own.is_healing:
            text = b"".join(PIECES[token_id] for token_id in tokens).removeprefix(b"".join(end))
            assert any(choice.startswith(text) for choice in CHOICES)
            assert own.may_end == (text in CHOICES)
        assert move < 0 or len(allowed(twin)) > 0 or twin.is_done


def test_a_token_that_is_not_allowed_is_refused() -> None:
    own = matcher(b" ", b"a")
    with pytest.raises(ValueError, match="may not follow"):
        own.accept(PIECES.index(b"bb"))
