"""The tokenizer on a fake vocabulary: what transformers' arguments mean, what is refused."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from localgen import Tokenizer
from localgen.tokenizer import Vocab
from tests.fakes import EOS, FakeVocab

HI = [{"role": "user", "content": "Hi"}]
TEMPLATE = "{{ messages[0].content }}{{ thinking }}"


@pytest.fixture
def tokenizer() -> Tokenizer:
    vocab: Vocab = FakeVocab()
    return Tokenizer(vocab)


@pytest.mark.parametrize("padding", [True, "longest"])
def test_padding(padding: Any, tokenizer: Tokenizer) -> None:
    """On the left, to the longest."""
    batch = tokenizer(["a", "bcd"], padding=padding)
    assert batch.input_ids.tolist() == [[EOS, EOS, 97], [98, 99, 100]]
    assert batch.attention_mask.tolist() == [[0, 0, 1], [1, 1, 1]]
    chats = tokenizer.apply_chat_template(
        [HI, HI], chat_template=TEMPLATE, padding=padding, return_dict=False
    )
    assert chats.tolist() == [[72, 105], [72, 105]]


@pytest.mark.parametrize("padding", [False, "do_not_pad"])
def test_no_padding(padding: Any, tokenizer: Tokenizer) -> None:
    """Regression: "do_not_pad" padded."""
    assert tokenizer(["a", "bcd"], padding=padding).input_ids == [[97], [98, 99, 100]]
    with pytest.raises(ValueError, match="use padding=True"):
        tokenizer(["a", "bcd"], padding=padding, return_tensors="np")


@pytest.mark.parametrize("padding", ["max_length", "left", "", None, 1])
@pytest.mark.parametrize("tokenize", [True, False])
def test_other_paddings(padding: Any, tokenize: bool, tokenizer: Tokenizer) -> None:
    """Regression: "max_length", and whatever else is true, meant the longest."""
    message = f"must be True or 'longest', False or 'do_not_pad', got {padding!r}; to pad to"
    with pytest.raises(ValueError, match=message):
        tokenizer(["a", "bcd"], padding=padding)
    with pytest.raises(ValueError, match=message):
        tokenizer.apply_chat_template(
            HI, chat_template=TEMPLATE, padding=padding, tokenize=tokenize
        )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("truncation", True),
        ("truncation", "longest_first"),
        ("max_length", 4),
        ("max_length", 0),
        ("return_assistant_tokens_mask", True),
        ("tokenizer_kwargs", {"padding": True}),
    ],
)
def test_arguments_that_are_not_there(name: str, value: Any, tokenizer: Tokenizer) -> None:
    """Regression: with these nothing was cut, after a warning that the template reads them not."""
    with pytest.raises(TypeError, match=f"has no {name}="):
        tokenizer.apply_chat_template(HI, chat_template=TEMPLATE, **{name: value})


def test_arguments_that_ask_for_nothing(tokenizer: Tokenizer) -> None:
    """Their defaults in transformers, spelled out, are no reason to refuse or to warn."""
    nothing: dict[str, Any] = {"truncation": False, "max_length": None}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ids = tokenizer.apply_chat_template(
            HI, chat_template=TEMPLATE, return_dict=False, **nothing
        )
    assert ids == [72, 105]


def test_misspelt_arguments(tokenizer: Tokenizer) -> None:
    """Regression: an argument misspelt was a variable that no template reads, and a warning only. A
    template may have such a variable all the same."""
    for wrong, right in (
        ("add_generation_promt", "add_generation_prompt"),
        ("tool", "tools"),
        ("chat_templates", "chat_template"),
    ):
        with pytest.raises(TypeError, match=f"{wrong}'; did you mean the argument '{right}'"):
            tokenizer.apply_chat_template(HI, chat_template=TEMPLATE, **{wrong: True})
    text = tokenizer.apply_chat_template(
        HI, chat_template="{{ tool }}", tokenize=False, tool="read"
    )
    assert text == "read"
    with pytest.warns(UserWarning, match="does not read enable_thinking"):
        tokenizer.apply_chat_template(HI, chat_template=TEMPLATE, enable_thinking=True)
