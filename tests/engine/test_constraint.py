"""A constraint's tracker: what it allows, forces and takes back, against a matcher of bytes."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localgen.engine.constraint import (
    ConstraintTracker,
    MaskWorker,
    masks_one_by_one,
    prepare_masks,
)
from tests.fakes import BOS, END_OF_TURN, EOS, N_VOCAB, ChoiceMatcher, constraint

WORDS = [b"ab", b"abc", b"abcde", b"b", b"bac"]


def allowed(tracker: ConstraintTracker) -> set[int]:
    bits = np.unpackbits(tracker.allowed(), bitorder="little")[:N_VOCAB]
    return set(np.flatnonzero(bits).tolist())


def asked_alone(tracker: ConstraintTracker) -> set[int]:
    return {token_id for token_id in (*b"abcde", BOS, EOS, END_OF_TURN) if tracker.allows(token_id)}


def expected(text: bytes, *, has_ended: bool = False) -> set[int]:
    if has_ended:
        return {EOS}
    left = [word[len(text) :] for word in WORDS if word.startswith(text)]
    return {rest[0] for rest in left if rest} | ({EOS} if b"" in left else set())


@given(st.lists(st.integers(-3, 4), max_size=25), st.data())
def test_it_follows_every_accept_rollback_and_copy(moves: list[int], data: st.DataObject) -> None:
    """A number ≥ 0 chooses an allowed token, one below takes as many back; masks that a thread is
    making change nothing."""
    tokens: list[int] = []
    tracker = constraint(WORDS)
    for move in moves:
        twin, before = tracker.copy(), list(tokens)
        if data.draw(st.booleans()):
            prepare_masks([tracker])
        if move < 0:
            n_back = min(-move, len(tokens))
            tracker.rollback(n_back)
            del tokens[len(tokens) - n_back :]
        elif not tracker.stops and EOS not in tokens:
            choices = sorted(expected(bytes(tokens)))
            tokens.append(choices[move % len(choices)])
            tracker.accept(tokens[-1])
        for each, text in ((tracker, tokens), (twin, before)):
            has_ended = EOS in text
            spelled = bytes(token for token in text if token != EOS)
            assert asked_alone(each) == expected(spelled, has_ended=has_ended)
            assert allowed(each) == expected(spelled, has_ended=has_ended)
            assert each.may_end == (spelled in WORDS)
            assert each.stops == (not has_ended and spelled in {b"abcde", b"bac"})
        twin.rollback(len(before))
        assert allowed(twin) == expected(b"")


def test_a_draft_may_come_up_to_its_first_token_that_may_not() -> None:
    tracker = constraint(WORDS)
    prepare_masks([tracker])
    word = max(WORDS, key=len)
    assert tracker.n_allowed([*word]) == len(word)
    assert tracker.n_allowed([*word[:2], 255, word[2]]) == 2
    assert tracker.n_allowed([EOS]) == tracker.n_allowed([]) == 0
    for token_id in word:
        tracker.accept(token_id)
    assert tracker.n_allowed([word[0]]) == 0


def test_an_end_comes_only_where_the_text_is_complete() -> None:
    tracker = constraint([b"ab", b"abc"])
    assert EOS not in allowed(tracker)
    with pytest.raises(ValueError, match="choices allows only some tokens here"):
        tracker.accept(EOS)
    for token_id in b"ab":
        tracker.accept(token_id)
    assert allowed(tracker) == {EOS, ord("c")}
    assert not tracker.stops
    tracker.accept(EOS)
    with pytest.raises(ValueError, match="was chosen"):
        tracker.accept(ord("c"))


def test_a_complete_text_that_cannot_go_on_stops_its_sequence() -> None:
    tracker = constraint([b"ab"])
    tracker.accept(ord("a"))
    assert not tracker.stops
    tracker.accept(ord("b"))
    assert tracker.stops
    assert tracker.may_end
    tracker.rollback(1)
    assert not tracker.stops


class Loose(ChoiceMatcher):
    """Its mask has the bits of all ends, whatever the text."""

    def mask(self) -> np.ndarray:
        mask = super().mask()
        for token_id in (BOS, EOS, END_OF_TURN):
            mask[token_id // 8] |= 1 << token_id % 8
        return mask


def test_the_ends_of_the_call_count_not_those_of_the_matcher() -> None:
    """The caller chose END_OF_TURN as the only end."""
    tracker = ConstraintTracker(
        Loose([b"a", b"ab"]), "regex", ends={END_OF_TURN}, never={BOS, EOS, END_OF_TURN}
    )
    assert allowed(tracker) == {ord("a")}
    tracker.accept(ord("a"))
    assert allowed(tracker) == {ord("b"), END_OF_TURN}


def test_a_text_that_must_come_has_one_spelling_whether_it_is_forced_or_asked_about() -> None:
    """A mask has only the tokenizer's own tokens of it, though others would spell it, too."""

    class TwoSpellings(ChoiceMatcher):
        def n_allowed(self, token_ids: Sequence[int]) -> int:
            return len(token_ids)

    for forces in (True, False):
        matcher = TwoSpellings([b"ab"])
        tracker = ConstraintTracker(matcher, "choices", ends={EOS}, forces=forces)
        assert asked_alone(tracker) == allowed(tracker) == {ord("a")}


def test_what_must_come_is_forced_up_to_the_first_choice() -> None:
    tracker = constraint([b"name: x", b"name: y"])
    assert bytes(tracker.forced()) == b"name: "
    for n_left in range(6, 0, -1):
        assert len(tracker.forced()) == n_left
        tracker.accept(tracker.forced()[0])
    assert tracker.forced() == []
    tracker.rollback(2)
    assert bytes(tracker.forced()) == b": "
    assert constraint([b"ab"], forces=False).forced() == []


def test_masks_of_all_sequences_are_made_together_in_one_other_thread() -> None:
    calls = []

    def masks_of(matchers):
        calls.append((len(matchers), threading.current_thread()))
        return masks_one_by_one(matchers)

    worker = MaskWorker(masks_of)
    trackers = [
        ConstraintTracker(ChoiceMatcher([word]), "choices", ends={EOS}, worker=worker)
        for word in (b"x", b"y", b"z")
    ]
    first_known = trackers[0].allowed()
    prepare_masks(trackers)
    prepare_masks(trackers)  # which nobody lacks now
    assert [min(allowed(each)) for each in trackers] == [*b"xyz"]
    assert trackers[0].allowed() is first_known
    ((n_matchers, thread),) = calls
    assert n_matchers == 2
    assert thread is not threading.current_thread()


def test_an_error_of_a_mask_that_a_thread_made_is_raised_where_it_is_needed() -> None:
    def masks_of(_matchers):
        raise ValueError("the schema is too complex")

    tracker = ConstraintTracker(
        ChoiceMatcher([b"x"]), "choices", ends={EOS}, worker=MaskWorker(masks_of)
    )
    prepare_masks([tracker])
    with pytest.raises(ValueError, match="too complex"):
        tracker.accept(ord("x"))
