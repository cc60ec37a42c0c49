"""The text of a sequence as a tracker: stop strings, tokens taken back, copies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localgen.generation.text_tracker import Clock, TextTracker
from localgen.text.detokenizer import Detokenizer

EOS = 300


def tracker(*stops: str) -> TextTracker:
    def new_stream() -> Detokenizer:
        return Detokenizer(lambda token_id: bytes([token_id]), stops)

    return TextTracker(new_stream, frozenset({EOS}), Clock())


def test_an_eos_is_no_text() -> None:
    text = tracker()
    for token_id in (*b"end", EOS):
        text.accept(token_id)
    assert text.stream.text == "end"
    assert not text.stops


def test_a_stop_string_stops() -> None:
    text = tracker("ld")
    for token_id in b"world":
        assert not text.stops
        text.accept(token_id)
    assert text.stops


@given(
    moves=st.lists(st.one_of(st.sampled_from([*"aäb€".encode(), EOS]), st.integers(-3, -1))),
    stops=st.lists(st.sampled_from(["ab", "ä€", "b"]), max_size=2),
)
def test_taking_back_is_as_if_the_tokens_never_came(moves: list[int], stops: list[str]) -> None:
    text, kept = tracker(*stops), list[int]()
    for move in moves:
        if move < 0:
            n_back = min(-move, len(kept))
            text.rollback(n_back)
            del kept[len(kept) - n_back :]
        elif not text.stops:
            text.accept(move)
            kept.append(move)
    fresh = tracker(*stops)
    for token_id in kept:
        fresh.accept(token_id)
    assert text.stream.text == fresh.stream.text
    assert text.stops == fresh.stops
    twin = text.copy()
    assert (twin.stream.text, twin.stops) == (text.stream.text, text.stops)


def test_text_that_was_read_is_not_taken_back() -> None:
    text = tracker()
    text.accept(ord("a"))
    assert text.stream.take() == "a"
    with pytest.raises(RuntimeError, match="cannot be taken back"):
        text.rollback(1)
