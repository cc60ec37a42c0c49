"""Where a prompt ends and a choice begins, with tokens that span the boundary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localgen.engine.backend import TokenIds
from localgen.generation.choice_tokens import prompts_from_template, tokens_of
from localgen.text.tokenizer import Tokenizer
from tests.fakes import FakeVocab

PAIRS = {b" r": 300, b" p": 301, b"a)": 302}


class PairVocab(FakeVocab):
    """A vocabulary of bytes and of three pairs of them, each of which is one token."""

    n_vocab = 310

    def tokenize(self, text: bytes, *, add_special: bool, parse_special: bool) -> TokenIds:
        ids, index = [], 0
        while index < len(text):
            pair = PAIRS.get(text[index : index + 2])
            ids.append(text[index] if pair is None else pair)
            index += 1 if pair is None else 2
        return np.array(ids, np.int32)

    def token_bytes(self, token_id: int) -> bytes:
        spelled = {number: pair for pair, number in PAIRS.items()}
        return spelled.get(token_id) or super().token_bytes(token_id)


TOKENIZER = Tokenizer(PairVocab())


def split(prompt: str | list[int], choices: list[str]) -> tuple[bytes, list[list[bytes]]]:
    """The bytes of the start, and those of each token of each choice."""
    found = tokens_of(prompt, choices, TOKENIZER, split_special_tokens=False)
    vocab = PairVocab()
    return (
        b"".join(map(vocab.token_bytes, found.start.tolist())),
        [[*map(vocab.token_bytes, token_ids)] for token_ids in found.continuations],
    )


def test_a_choice_after_a_prompt_that_nothing_spans() -> None:
    assert split("A:", [" ro", "xy"]) == (b"A:", [[b" r", b"o"], [b"x", b"y"]])


def test_a_token_that_spans_the_end_of_the_prompt_belongs_to_the_choices() -> None:
    assert split("A: ", ["ro", "po"]) == (b"A:", [[b" r", b"o"], [b" p", b"o"]])


def test_one_such_choice_moves_the_start_for_all() -> None:
    """Else the probabilities of two different things would be compared."""
    assert split("A: ", ["ro", "x"]) == (b"A:", [[b" r", b"o"], [b" ", b"x"]])


def test_token_ids_stay_as_they_are() -> None:
    assert split([*b"A: "], ["ro"]) == (b"A: ", [[b"r", b"o"]])


def test_a_prompt_and_a_choice_of_one_token_leave_nothing_before_it() -> None:
    with pytest.raises(ValueError, match="no token before the choice: use a longer prompt"):
        split("a", [")"])


def test_texts_with_the_same_tokens_are_refused() -> None:
    class Deaf(PairVocab):
        def tokenize(self, text: bytes, **options: bool) -> TokenIds:
            return super().tokenize(text.lower(), **options)

    with pytest.raises(ValueError, match="choices 0 and 1 have the same tokens: 'X' and 'x'"):
        tokens_of("a:", ["X", "x"], Tokenizer(Deaf()), split_special_tokens=False)


texts = st.text("arp )x", min_size=1, max_size=6)


@given(st.text("arp )x", max_size=6), st.lists(texts, min_size=1, max_size=5, unique=True))
def test_start_and_choice_are_the_tokens_of_the_whole(prompt: str, choices: list[str]) -> None:
    prompt = f"x{prompt}"
    found = tokens_of(prompt, choices, TOKENIZER, split_special_tokens=False)
    for choice, token_ids in zip(choices, found.continuations, strict=True):
        assert [*found.start.tolist(), *token_ids] == TOKENIZER.encode(prompt + choice)
    backward = tokens_of(prompt, choices[::-1], TOKENIZER, split_special_tokens=False)
    assert backward.continuations[::-1] == found.continuations


def test_a_template_is_cut_at_its_label() -> None:
    given_texts = ["{label} is not one here", "b"]
    found = prompts_from_template("<{text}> is {label}!", "Say so.", given_texts, ["x", "{text}"])
    assert found == (
        ["Say so.\n\n<{label} is not one here> is ", "Say so.\n\n<b> is "],
        ["x!", "{text}!"],
    )


@pytest.mark.parametrize(
    "template", ["", "{text}", "{label} {text}", "{text}{text}{label}", "{text}{label}{label}"]
)
def test_a_template_has_a_text_and_then_a_label(template: str) -> None:
    with pytest.raises(ValueError, match="template must have"):
        prompts_from_template(template, "", ["a"], ["b"])
