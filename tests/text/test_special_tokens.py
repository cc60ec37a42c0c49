"""Special tokens by their role, on a fake vocabulary."""

from __future__ import annotations

from typing import Any

import pytest

from localgen import Tokenizer
from localgen.text.special_tokens import ROLES
from tests.fakes import BOS, END_OF_TURN, EOS, FakeVocab

TEMPLATE = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer(FakeVocab())


def test_what_the_vocabulary_has(tokenizer: Tokenizer) -> None:
    """A role without a token is None; padding is EOS for want of its own."""
    assert tokenizer.special_tokens_map == {
        "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<eos>",
    }  # fmt: skip
    assert tokenizer.all_special_tokens == ["<bos>", "<eos>"]
    assert tokenizer.all_special_ids == [BOS, EOS]
    assert tokenizer.control_token_ids == [BOS, EOS, END_OF_TURN]
    assert tokenizer.unk_token is None
    assert tokenizer.cls_token_id is None


@pytest.mark.parametrize("role", ROLES)
def test_each_role_can_be_set(role: str, tokenizer: Tokenizer) -> None:
    """By token or by id; only to what the vocabulary has."""
    setattr(tokenizer, f"{role}_token", "<end>")
    assert getattr(tokenizer, f"{role}_token_id") == END_OF_TURN
    setattr(tokenizer, f"{role}_token_id", 97)
    assert getattr(tokenizer, f"{role}_token") == "a"
    with pytest.raises(ValueError, match=rf"{role}_token must be a token .* got '\[X\]': .* grow"):
        setattr(tokenizer, f"{role}_token", "[X]")
    with pytest.raises(ValueError, match=f"{role}_token_id must be between 0 and 258, got 259"):
        setattr(tokenizer, f"{role}_token_id", 259)
    assert getattr(tokenizer, f"{role}_token") == "a"
    setattr(tokenizer, f"{role}_token", None)
    assert getattr(tokenizer, f"{role}_token_id") is None


def test_templates_see_what_was_set(tokenizer: Tokenizer) -> None:
    """As in transformers; the vocabulary's own ends are what they were."""
    hi = [{"role": "user", "content": "Hi"}]
    before = tokenizer.eos_token_ids
    tokenizer.eos_token = "<end>"
    tokenizer.chat_template = TEMPLATE
    assert tokenizer.apply_chat_template(hi, tokenize=False) == "<bos>Hi<end>"
    assert tokenizer.eos_token_ids == before


def test_tokens_that_exist_can_be_added(tokenizer: Tokenizer) -> None:
    """``add_special_tokens`` gives roles; what is missing cannot be added."""
    given: dict[str, Any] = {"pad_token": "<end>", "additional_special_tokens": ["<bos>"]}
    assert tokenizer.add_special_tokens(given) == 0
    assert tokenizer.pad_token_id == END_OF_TURN
    assert (
        tokenizer.add_tokens(["a", "<eos>"], special_tokens=True) == tokenizer.add_tokens("b") == 0
    )
    with pytest.raises(ValueError, match=r"pad_token must be a token of the voc.*'\[PAD\]'"):
        tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    with pytest.raises(ValueError, match="each token must be a token of the vocabulary, got 'new'"):
        tokenizer.add_tokens(["a", "new"])
    with pytest.raises(ValueError, match="'end_token' is no role of a special token: bos_token"):
        tokenizer.add_special_tokens({"end_token": "<end>"})
