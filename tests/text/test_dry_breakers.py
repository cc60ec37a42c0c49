"""Which tokens a sequence breaker begins and ends in; llama.cpp's own: tests/llama."""

from __future__ import annotations

from typing import Any

import pytest

from localgen import GenerationConfig
from localgen.text.dry_breakers import breakers_of
from tests.fakes import FakeVocab


class Words(FakeVocab):
    """Token i is the word i; texts are a token a letter, in capitals' numbers."""

    def __init__(self, *words: str) -> None:
        self.words = [word.encode() for word in words]
        self.n_vocab = len(words)

    def token_bytes(self, token_id: int) -> bytes:
        return self.words[token_id]


def breakers(vocab: Words, *texts: str) -> Any:
    return breakers_of(texts, vocab, vocab.token_bytes)


def test_a_token_that_holds_the_text() -> None:
    assert breakers(Words("a", "b:c", ":", "\n:"), ":") == {1: ((),), 2: ((),), 3: ((),)}


def test_a_token_that_ends_with_its_begin() -> None:
    """The tokens of the rest must follow."""
    rest = tuple(b"nd")
    assert breakers(Words("the e", "end", "en", "ne"), "end") == {
        0: (rest,),
        1: ((),),
        2: ((ord("d"),),),
        3: (rest,),
    }


def test_two_places_and_two_texts() -> None:
    """A token may end with the text's begin in several ways, and more than one text may."""
    assert breakers(Words("aa"), "aab", "aaa") == {
        0: ((ord("a"), ord("b")), (ord("b"),), (ord("a"), ord("a")), (ord("a"),))
    }


def test_the_space_before_a_text_is_none_of_the_token() -> None:
    vocab = Words(" the", "a the")
    assert set(breakers(vocab, " ")) == {0, 1}
    vocab.adds_space_prefix = True
    assert set(breakers(vocab, " ")) == {1}


def test_limits() -> None:
    """40 bytes of a text count, and 20 tokens of its rest."""
    assert breakers(Words("x" * 45), "x" * 50) == {0: ((),)}
    (tails,) = breakers(Words("x"), "x" * 50).values()
    assert tails == ((ord("x"),) * 20,)
    assert breakers(Words("a")) == {}


def test_a_list_of_breakers_is_bounded() -> None:
    texts = [str(number) for number in range(128)]
    assert GenerationConfig(dry_sequence_breakers=texts).dry_sequence_breakers == tuple(texts)
    with pytest.raises(ValueError, match="dry_sequence_breakers must hold at most 128 texts"):
        GenerationConfig(dry_sequence_breakers=[*texts, "one more"])
