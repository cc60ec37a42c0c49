"""The tokenizer on a fake vocabulary: transformers' arguments, and what is refused."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
import pytest

from localgen import Tokenizer
from localgen.engine.backend import TokenIds
from localgen.text.token_texts import TokenTexts
from localgen.text.vocab import Vocab
from tests.fakes import BOS, END_OF_TURN, EOS, FakeVocab, fake_model

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


@pytest.mark.parametrize("padding", ["left", "", None, 1])
@pytest.mark.parametrize("tokenize", [True, False])
def test_other_paddings(padding: Any, tokenize: bool, tokenizer: Tokenizer) -> None:
    """Regression: any other truthy value meant the longest."""
    message = f"'max_length', False or 'do_not_pad', got {padding!r}"
    with pytest.raises(ValueError, match=message):
        tokenizer(["a", "bcd"], padding=padding)
    with pytest.raises(ValueError, match=message):
        tokenizer.apply_chat_template(
            HI, chat_template=TEMPLATE, padding=padding, tokenize=tokenize
        )


def test_padding_to_max_length(tokenizer: Tokenizer) -> None:
    """Regression: refused. Every text gets that length, even a single one; none is cut."""
    batch = tokenizer(["a", "bcd"], padding="max_length", max_length=4)
    assert batch.input_ids.tolist() == [[EOS, EOS, EOS, 97], [EOS, 98, 99, 100]]
    assert batch.attention_mask.tolist() == [[0, 0, 0, 1], [0, 1, 1, 1]]
    assert tokenizer("a", padding="max_length", max_length=2).input_ids.tolist() == [[EOS, 97]]
    with pytest.raises(
        ValueError, match="max_length=2 is too small for a text of 3 tokens; use trunc"
    ):
        tokenizer(["a", "bcd"], padding="max_length", max_length=2)
    with pytest.raises(ValueError, match="not support padding='max_length': use padding=True"):
        tokenizer.apply_chat_template(HI, chat_template=TEMPLATE, padding="max_length")
    both = tokenizer(["a", "bcd"], padding="max_length", max_length=2, truncation=True)
    assert both.input_ids.tolist() == [[EOS, 97], [98, 99]]


def test_padding_on_the_right(tokenizer: Tokenizer) -> None:
    """Regression: the side could be set, but was ignored."""
    tokenizer.padding_side = "right"
    batch = tokenizer(["a", "bcd"], padding=True)
    assert batch.input_ids.tolist() == [[97, EOS, EOS], [98, 99, 100]]
    assert batch.attention_mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    for name in ("padding_side", "truncation_side"):
        with pytest.raises(ValueError, match=f"{name} must be 'left' or 'right', got 'up'"):
            setattr(tokenizer, name, "up")


@pytest.mark.parametrize("truncation", [True, "longest_first", "only_first"])
def test_truncation(truncation: Any, tokenizer: Tokenizer) -> None:
    """Regression: refused. Longer texts lose their end or their start; others are unchanged."""
    texts = ["abcd", "a", ""]
    batch = tokenizer(texts, truncation=truncation, max_length=2)
    assert batch.input_ids == [[97, 98], [97], []]
    assert batch.attention_mask == [[1, 1], [1], []]
    tokenizer.truncation_side = "left"
    assert tokenizer(texts, truncation=truncation, max_length=3).input_ids[0] == [98, 99, 100]
    assert tokenizer("abcd", truncation=False).input_ids == [97, 98, 99, 100]


def test_pad_token_can_be_set(tokenizer: Tokenizer) -> None:
    """Regression: ``pad_token = eos_token``, as in most programs, was refused."""
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<bos>", "<eos>")
    tokenizer.pad_token = tokenizer.eos_token
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("<eos>", EOS)
    tokenizer.pad_token = "<bos>"
    assert tokenizer(["a", "bc"], padding=True).input_ids.tolist() == [[BOS, 97], [98, 99]]
    tokenizer.pad_token_id = EOS
    assert tokenizer.pad_token == "<eos>"
    with pytest.raises(ValueError, match=r"got '\[PAD\]': a GGUF vocabulary cannot grow; use tok"):
        tokenizer.pad_token = "[PAD]"
    with pytest.raises(ValueError, match="pad_token_id must be between 0 and 258, got 259"):
        tokenizer.pad_token_id = 259
    assert tokenizer.pad_token_id == EOS


def test_a_tokenizer_s_pad_token_is_not_generate_s() -> None:
    """As in transformers: the tokenizer's setting does not change what generate() returns."""
    model = fake_model()
    before = model.generate([[1, 97]], max_new_tokens=2).tolist()
    model.tokenizer.pad_token_id = 1
    assert model.generate([[1, 97]], max_new_tokens=2).tolist() == before


def test_tokens_and_their_texts(tokenizer: Tokenizer) -> None:
    """Both directions; a byte that is not a character is escaped."""
    assert tokenizer.tokenize("a é<eos>") == ["a", " ", "\\xc3", "\\xa9", "<eos>"]
    assert tokenizer.convert_ids_to_tokens(97) == "a"
    assert tokenizer.convert_ids_to_tokens([97, 0xC3, EOS]) == ["a", "\\xc3", "<eos>"]
    assert tokenizer.convert_ids_to_tokens([97, EOS], skip_special_tokens=True) == ["a"]
    assert tokenizer.convert_tokens_to_ids("<end>") == END_OF_TURN
    assert tokenizer.convert_tokens_to_ids(["a", "\\xc3", "no token"]) == [97, 0xC3, None]
    with pytest.raises(ValueError, match="convert_ids_to_tokens: token id 259 is outside"):
        tokenizer.convert_ids_to_tokens(259)


def test_texts_of_several_tokens() -> None:
    """By hand: 0 and 2 are both "a", so neither is returned; of two "b", the special one is."""
    texts = TokenTexts(4, [b"a", b"b", b"a", b"b"].__getitem__, lambda i: i == 3)
    assert texts.id_of("b") == 3
    with pytest.raises(ValueError, match="several tokens have the text 'a': 0, 2"):
        texts.id_of("a")


class WithBothEnds(FakeVocab):
    """A vocabulary that adds BOS and EOS."""

    def tokenize(self, text: bytes, *, add_special: bool, parse_special: bool) -> TokenIds:
        ids = super().tokenize(text, add_special=add_special, parse_special=parse_special)
        return np.array([BOS, *ids, EOS], np.int32) if add_special else ids


def test_truncation_keeps_special_tokens() -> None:
    """As in transformers, they count and stay in place; the text between them is cut."""
    tokenizer = Tokenizer(WithBothEnds())
    assert tokenizer("abcd", truncation=True, max_length=4).input_ids == [BOS, 97, 98, EOS]
    assert tokenizer("abcd", truncation=True, max_length=2).input_ids == [BOS, EOS]
    tokenizer.truncation_side = "left"
    assert tokenizer("abcd", truncation=True, max_length=4).input_ids == [BOS, 99, 100, EOS]
    plain = tokenizer("abcd", add_special_tokens=False, truncation=True, max_length=3)
    assert plain.input_ids == [98, 99, 100]
    with pytest.raises(ValueError, match="max_length=1 is too small: this model adds 2 special"):
        tokenizer("abcd", truncation=True, max_length=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncation": True}, "truncation=True needs max_length"),
        ({"padding": "max_length"}, "padding='max_length' needs max_length"),
        ({"max_length": 4}, "max_length=4 has no effect without truncation=True"),
        ({"max_length": 4, "padding": True}, "max_length=4 has no effect without truncation=True"),
        ({"max_length": 0, "truncation": True}, "max_length must be at least 1, got 0"),
        ({"max_length": 4, "truncation": "only_second"}, "got 'only_second'"),
    ],
)
def test_lengths_that_mean_nothing(
    options: dict[str, Any], message: str, tokenizer: Tokenizer
) -> None:
    """An argument without effect is refused."""
    with pytest.raises(ValueError, match=message):
        tokenizer("abc", **options)


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
    """Regression: nothing was cut, with only a warning that the template does not read them."""
    with pytest.raises(TypeError, match=f"does not support {name}="):
        tokenizer.apply_chat_template(HI, chat_template=TEMPLATE, **{name: value})


def test_arguments_that_ask_for_nothing(tokenizer: Tokenizer) -> None:
    """transformers' defaults, passed explicitly, are neither refused nor warned about."""
    nothing: dict[str, Any] = {"truncation": False, "max_length": None}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ids = tokenizer.apply_chat_template(
            HI, chat_template=TEMPLATE, return_dict=False, **nothing
        )
    assert ids == [72, 105]


@pytest.mark.parametrize(
    ("name", "hint"), [("trunction", r"; did you mean 'truncation'\?"), ("nothing_like_it", "")]
)
def test_unknown_option_of_a_call(name: str, hint: str, tokenizer: Tokenizer) -> None:
    with pytest.raises(TypeError, match=rf"unknown option '{name}'{hint}$"):
        tokenizer("a text", **{name: True})  # type: ignore[arg-type]


def test_misspelt_arguments(tokenizer: Tokenizer) -> None:
    """Regression: a misspelt argument was passed as a variable, with only a warning.

    A template may still have a variable of that name.
    """
    for wrong, right in (
        ("add_generation_promt", "add_generation_prompt"),
        ("tool", "tools"),
        ("chat_templates", "chat_template"),
    ):
        given: dict[str, Any] = {wrong: True}
        with pytest.raises(TypeError, match=f"{wrong}'; did you mean the argument '{right}'"):
            tokenizer.apply_chat_template(HI, chat_template=TEMPLATE, **given)
    text = tokenizer.apply_chat_template(
        HI, chat_template="{{ tool }}", tokenize=False, tool="read"
    )
    assert text == "read"
    with pytest.warns(UserWarning, match="read enable_thinking: .* not see it"):
        tokenizer.apply_chat_template(HI, chat_template=TEMPLATE, enable_thinking=True)


@pytest.mark.parametrize("name", ["padding_side", "truncation_side"])
def test_sides_can_be_read_and_set(name: str, tokenizer: Tokenizer) -> None:
    """What was set is what is read, and only a side can be set."""
    for side in ("right", "left"):
        setattr(tokenizer, name, side)
        assert getattr(tokenizer, name) == side
    with pytest.raises(ValueError, match=name):
        setattr(tokenizer, name, "top")
    assert getattr(tokenizer, name) == "left"


def test_wrong_texts(tokenizer: Tokenizer) -> None:
    """Each error says what was passed."""
    with pytest.raises(ValueError, match="the batch is empty"):
        tokenizer([])
    with pytest.raises(TypeError, match="text must be a str, got int"):
        tokenizer.encode(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'np' or 'pt', got 'tf'"):
        tokenizer("a", return_tensors="tf")


def test_wrong_ids(tokenizer: Tokenizer) -> None:
    """decode() takes one sequence of integers."""
    with pytest.raises(ValueError, match=r"one sequence of token ids, got shape \(1, 2\)"):
        tokenizer.decode([[97, 98]])
    with pytest.raises(ValueError, match="must be integers, got float64"):
        tokenizer.decode([97.0])


def test_padding_without_a_pad_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only texts of different lengths need one."""
    monkeypatch.setattr(FakeVocab, "eos_token_id", None)
    tokenizer = Tokenizer(FakeVocab())
    assert tokenizer(["ab", "cd"], padding=True).input_ids.tolist() == [[97, 98], [99, 100]]
    with pytest.raises(ValueError, match="padding needs a pad token"):
        tokenizer(["a", "bcd"], padding=True)


def test_tensors_without_torch(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how to get torch."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="'pt' needs torch: pip install torch"):
        tokenizer("a", return_tensors="pt")


def test_space_that_the_vocabulary_adds(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no part of the text; a second space is."""
    monkeypatch.setattr(FakeVocab, "adds_space_prefix", True)
    assert tokenizer.decode(list(b" a b")) == "a b"
    assert tokenizer.decode(list(b"  a")) == " a"
    assert tokenizer.decode([BOS, *b" a"]) == "<bos> a"


def test_empty_text(tokenizer: Tokenizer) -> None:
    """It has no tokens, and its array no columns."""
    assert tokenizer.encode("") == []
    assert tokenizer("", return_tensors="np").input_ids.shape == (1, 0)
