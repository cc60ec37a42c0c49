"""The index of n-grams finds what a search of the whole text finds, and forgets what is undone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from localgen.engine.suffix_index import MatchChances, SuffixIndex, match_class

tokens = st.lists(st.integers(0, 3), max_size=40)


def searched(text: list[int], max_ngram: int) -> tuple[int, int] | None:
    """The longest n-gram at the end that stood before, and where it ended last."""
    for size in range(min(max_ngram, len(text) - 1), 0, -1):
        for end in range(len(text) - 2, size - 2, -1):
            if text[end - size + 1 : end + 1] == text[-size:]:
                return end, size
    return None


@given(tokens, st.integers(1, 4))
def test_a_new_index_matches_what_a_search_finds(text: list[int], max_ngram: int) -> None:
    assert SuffixIndex(text, max_ngram).match == searched(text, max_ngram)


@given(tokens, tokens, st.integers(1, 4))
def test_a_match_repeats_the_last_tokens_and_is_there_when_one_exists(
    prompt: list[int], new: list[int], max_ngram: int
) -> None:
    """A growing match may be longer than any n-gram, and not the last one."""
    index = SuffixIndex(prompt, max_ngram)
    for number, token_id in enumerate(new, 1):
        index.accept(token_id)
        text = prompt + new[:number]
        found, expected = index.match, searched(text, max_ngram)
        if found is None:
            assert expected is None
            continue
        position, length = found
        assert position < len(text) - 1
        assert text[position - length + 1 : position + 1] == text[len(text) - length :]


@given(tokens, tokens, st.data())
def test_tokens_taken_back_leave_no_trace(
    prompt: list[int], new: list[int], data: st.DataObject
) -> None:
    n_back = data.draw(st.integers(0, len(new)))
    index = SuffixIndex(prompt, 3)
    for token_id in new:
        index.accept(token_id)
    before = index.copy()
    index.rollback(n_back)
    kept = prompt + new[: len(new) - n_back]
    if n_back:
        assert index.match == SuffixIndex(kept, 3).match
    for token_id in new[len(new) - n_back :]:
        index.accept(token_id)
    index.rollback(0)
    before.rollback(len(new))
    assert before.match == SuffixIndex(prompt, 3).match


def test_a_guess_is_what_followed() -> None:
    index = SuffixIndex([5, 6, 7, 8, 9, 5, 6], 2)
    assert index.match == (1, 2)
    assert index.guess(3)[0] == [7, 8, 9]


def test_a_guess_goes_on_with_a_period() -> None:
    """The earlier place is so near that what followed ends with the sequence."""
    assert SuffixIndex([1, 2, 3, 1, 2, 3], 3).guess(5)[0] == [1, 2, 3, 1, 2]
    assert SuffixIndex([4, 4], 2).guess(2)[0] == [4, 4]


def test_a_short_match_has_a_short_guess() -> None:
    index = SuffixIndex([1, 2, 3, 4, 5, 6, 7, 8, 1], 2)
    assert index.guess(9)[0] == [2, 3]
    index.accept(2)
    assert index.guess(9)[0] == [3, 4, 5, 6]


def test_nothing_is_guessed_of_new_tokens() -> None:
    assert SuffixIndex([1, 2, 3], 2).guess(4) == ([], [])
    assert SuffixIndex([], 2).match is None


def test_matches_grow_and_their_chances_are_learned() -> None:
    """Where matches of one token always fail, their chance falls; where they hold, it rises."""
    fails, holds = SuffixIndex([0], 1), SuffixIndex([1, 2, 3] * 2, 1)
    for number in range(40):
        fails.accept(number % 2 * (number + 1))  # every 0 is followed by another token
    for _ in range(40):
        for token_id in (1, 2, 3):
            holds.accept(token_id)
    fails.accept(0)
    assert fails.guess(1)[1][0] < 0.1
    assert holds.match is not None
    assert holds.match[1] > 100
    assert holds.guess(1)[1][0] > 0.9


def test_sequences_learn_chances_together_and_copies_alone() -> None:
    chances = MatchChances()
    one, other = (SuffixIndex([1, 2, 3, 1], 1, chances) for _ in range(2))
    one.copy().accept(9)
    assert other.guess(1)[1] == [MatchChances().of(1)]
    one.accept(9)
    assert other.guess(1)[1][0] < MatchChances().of(1)


def test_classes_of_matches() -> None:
    assert [match_class(n) for n in (1, 2, 3, 4, 5, 8, 9, 16, 17, 1000)] == [
        0, 1, 2, 2, 3, 3, 4, 4, 5, 5,
    ]  # fmt: skip
