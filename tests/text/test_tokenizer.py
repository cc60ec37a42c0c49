"""The tokenizer on a fake vocabulary: transformers' arguments, and what is refused."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import sys
import warnings
from typing import Any

import numpy as np
import pytest

from localgen import TemplateError, Tokenizer
from localgen.engine.backend import TokenIds
from localgen.text.vocab import TokenType, Vocab
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
    with pytest.raises(
        ValueError, match=r"got '\[PAD\]': .* cannot grow; to pad, use tokenizer.eos"
    ):
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


def test_tokens_in_the_vocabulary_s_spelling(tokenizer: Tokenizer) -> None:
    """Both directions, as in transformers; a text that is no token has the unknown token's id."""
    with pytest.raises(TypeError, match=r"all tokens of a text, got truncation: use tokenizer\("):
        tokenizer.tokenize("a", truncation=True)
    assert tokenizer.num_special_tokens_to_add() == 0
    with pytest.raises(TypeError, match="no pairs of texts"):
        tokenizer.num_special_tokens_to_add(pair=True)
    assert tokenizer.tokenize("a é<eos>") == ["a", " ", "Ã", "©", "<eos>"]
    assert tokenizer.convert_ids_to_tokens(97) == "a"
    assert tokenizer.convert_ids_to_tokens([97, 0xC3, EOS]) == ["a", "Ã", "<eos>"]
    assert tokenizer.convert_ids_to_tokens([97, EOS], skip_special_tokens=True) == ["a"]
    assert tokenizer.convert_tokens_to_ids("<end>") == END_OF_TURN
    assert tokenizer.convert_tokens_to_ids(["a", "Ã", "no token"]) == [97, 0xC3, None]
    tokenizer.unk_token = "<bos>"
    assert tokenizer.convert_tokens_to_ids(["no token", "a"]) == [BOS, 97]
    assert tokenizer.convert_tokens_to_ids("no token") == BOS
    assert tokenizer.convert_tokens_to_string(["a", "Ã", "©", "<eos>"]) == "aé<eos>"
    with pytest.raises(ValueError, match="'ab' is no token of the vocabulary, whose spelling"):
        tokenizer.convert_tokens_to_string(["a", "ab"])
    with pytest.raises(ValueError, match="convert_ids_to_tokens: token id 259 is outside"):
        tokenizer.convert_ids_to_tokens(259)


def test_the_vocabulary(tokenizer: Tokenizer) -> None:
    """Each token once; those that are never split, apart. The caller gets a copy."""
    assert len(tokenizer.vocab) == len(tokenizer) == 259
    assert tokenizer.get_vocab()["©"] == 0xA9
    tokenizer.get_vocab().clear()
    assert len(tokenizer.get_vocab()) == 259
    assert tokenizer.get_added_vocab() == {"<bos>": BOS, "<eos>": EOS, "<end>": END_OF_TURN}


def test_tokens_as_texts(tokenizer: Tokenizer) -> None:
    """What a token stands for; a byte that is not a character is escaped."""
    assert [tokenizer.token_text(i) for i in (97, 0xC3, EOS)] == ["a", "\\xc3", "<eos>"]
    assert tokenizer.token_with_text("\\xc3") == 0xC3
    assert tokenizer.token_with_text("é") is None
    with pytest.raises(ValueError, match="token_text: token id 259 is outside"):
        tokenizer.token_text(259)


class Repeated(FakeVocab):
    """Two "a", one of them a byte token; two "b", one of them special; two "c"."""

    n_vocab = 6

    def token_bytes(self, token_id: int) -> bytes:
        return b"aabbcc"[token_id : token_id + 1]

    def token_text(self, token_id: int) -> str:
        return str(token_id)

    def token_type(self, token_id: int) -> TokenType:
        return "byte" if token_id == 0 else "normal"

    def is_special(self, token_id: int) -> bool:
        return token_id == 3


def test_texts_of_several_tokens() -> None:
    """Regression: "A" was refused for SentencePiece, which has a token for the byte too."""
    tokenizer = Tokenizer(Repeated())
    assert (tokenizer.token_with_text("a"), tokenizer.token_with_text("b")) == (1, 3)
    with pytest.raises(ValueError, match="several tokens have the text 'c': 4, 5"):
        tokenizer.token_with_text("c")


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
        ({"max_length": 4, "truncation": False}, "max_length=4 has no effect without truncation"),
        ({"max_length": 4, "padding": True}, "max_length=4 has no effect without truncation=True"),
        ({"max_length": 0, "truncation": True}, "max_length must be at least 1, got 0"),
        ({"max_length": 4, "truncation": "only_second"}, "got 'only_second'"),
        ({"pad_to_multiple_of": 8}, "pad_to_multiple_of=8 has no effect without padding=True"),
        ({"pad_to_multiple_of": 0, "padding": True}, "pad_to_multiple_of must be at least 1, got"),
        (
            {"pad_to_multiple_of": 8, "padding": True, "truncation": True, "max_length": 12},
            "max_length=12 must be a multiple of pad_to_multiple_of=8",
        ),
        ({"padding_side": "up", "padding": True}, "padding_side must be 'left' or 'right', got"),
    ],
)
def test_lengths_that_mean_nothing(
    options: dict[str, Any], message: str, tokenizer: Tokenizer
) -> None:
    """An argument without effect is refused."""
    with pytest.raises(ValueError, match=message):
        tokenizer("abc", **options)


def test_truncation_to_the_model_s_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: ``truncation=True`` alone, as in most programs, was refused."""
    monkeypatch.setattr(FakeVocab, "n_ctx_train", 4)
    tokenizer = Tokenizer(FakeVocab())
    assert tokenizer.model_max_length == 4
    assert tokenizer(["abcdef", "a"], truncation=True).input_ids == [[97, 98, 99, 100], [97]]
    assert tokenizer("a", padding="max_length").input_ids.shape == (1, 4)
    tokenizer.model_max_length = 2
    assert tokenizer.encode("abcdef", truncation=True) == [97, 98]
    with pytest.raises(ValueError, match="model_max_length must be at least 1, got 0"):
        tokenizer.model_max_length = 0


def test_a_maximal_length_alone(tokenizer: Tokenizer) -> None:
    """As in transformers it cuts, with a warning."""
    with pytest.warns(UserWarning, match="max_length=2 cuts longer texts; pass truncation=True"):
        assert tokenizer("abc", max_length=2).input_ids == [97, 98]


def test_padding_of_one_call(tokenizer: Tokenizer) -> None:
    """The side, and a multiple that the length is rounded up to."""
    batch = tokenizer(["a", "bcd"], padding=True, padding_side="right", pad_to_multiple_of=4)
    assert batch.input_ids.tolist() == [[97, EOS, EOS, EOS], [98, 99, 100, EOS]]
    assert tokenizer.padding_side == "left"
    batch = tokenizer("abc", padding="max_length", max_length=5, pad_to_multiple_of=4)
    assert batch.input_ids.shape == (1, 8)


def test_encode_takes_the_options_of_a_call(tokenizer: Tokenizer) -> None:
    """A list; a batch of one with ``return_tensors``."""
    assert tokenizer.encode("abc", truncation=True, max_length=2) == [97, 98]
    assert tokenizer.encode("a", padding="max_length", max_length=2) == [EOS, 97]
    assert tokenizer.encode("abc", return_tensors="np").tolist() == [[97, 98, 99]]
    with pytest.raises(TypeError, match=r"unknown option 'trunction'; did you mean 'truncation'"):
        tokenizer.encode("abc", trunction=True)


class Doubling(FakeVocab):
    """A vocabulary that adds BOS."""

    adds_bos = True

    def tokenize(self, text: bytes, *, add_special: bool, parse_special: bool) -> TokenIds:
        ids = super().tokenize(text, add_special=add_special, parse_special=parse_special)
        if parse_special and text.startswith(b"<bos>"):
            ids = np.array([BOS, *ids[5:]], np.int32)
        return np.array([BOS, *ids], np.int32) if add_special else ids


def test_a_second_bos(recwarn: pytest.WarningsRecorder) -> None:
    """A rendered chat that is encoded as text begins with BOS twice, which hurts the answer."""
    tokenizer = Tokenizer(Doubling())
    tokenizer.chat_template = "{{ bos_token }}{{ messages[0].content }}"
    assert tokenizer.apply_chat_template(HI, return_dict=False) == [BOS, 72, 105]
    text = tokenizer.apply_chat_template(HI, tokenize=False)
    assert tokenizer.encode(text, add_special_tokens=False) == [BOS, 72, 105]
    assert tokenizer.encode("Hi") == [BOS, 72, 105]
    assert not recwarn
    with pytest.warns(UserWarning, match="begins with '<bos>', and the model adds one more"):
        assert tokenizer.encode(text) == [BOS, BOS, 72, 105]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("text_pair", "world", "does not say how to join two texts"),
        ("text_target", "b", "encode the targets as texts of their own"),
        ("is_split_into_words", True, "join the words of a text with spaces"),
        ("stride", 2, "encode the whole text, and slice its token ids"),
        ("return_overflowing_tokens", True, "encode the whole text, and slice its token ids"),
        ("verbose", False, "Python's warnings module"),
    ],
)
def test_options_that_a_call_lacks(
    name: str, value: Any, reason: str, tokenizer: Tokenizer
) -> None:
    """transformers' options are refused with the reason, and accepted at a no-op value."""
    with pytest.raises(TypeError, match=f"does not support {name}={value!r}: .*{reason}"):
        tokenizer("a", **{name: value})
    nothing: dict[str, Any] = {name: None, "verbose": True, "stride": 0}
    assert tokenizer("a", **nothing).input_ids == [97]
    with pytest.raises(TypeError, match="does not support text_pair='world'"):
        tokenizer("a", "world")  # type: ignore[arg-type]


def test_decoding_of_a_batch(tokenizer: Tokenizer) -> None:
    """Regression: refused. Rows may differ in length."""
    assert tokenizer.decode([[97], [98, EOS]], skip_special_tokens=True) == ["a", "b"]
    matrix: Any = np.array([[97, 98]])
    nothing: Any = []
    assert tokenizer.decode(matrix) == ["ab"]
    assert tokenizer.decode(nothing) == ""
    assert tokenizer.batch_decode([]) == []


def test_options_of_decoding(tokenizer: Tokenizer) -> None:
    """transformers' clean-up, by hand."""
    text = "is n't it 's , right ? I 'm we 've you 're ' x ' . Yes !"
    ids = tokenizer.encode(text)
    cleaned = "isn't it's, right? I'm we've you're'x '. Yes!"
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=True) == cleaned
    assert tokenizer.batch_decode([ids], False, True) == [cleaned]
    for off in (False, None):
        options: dict[str, Any] = {
            "clean_up_tokenization_spaces": off, "spaces_between_special_tokens": off,
        }  # fmt: skip
        assert tokenizer.decode(ids, **options) == text
        assert tokenizer.batch_decode([ids], **options) == [text]
    with pytest.raises(TypeError, match="spaces_between_special_tokens=True: tokens are joined"):
        tokenizer.decode(ids, spaces_between_special_tokens=True)


def test_copies_and_files(tokenizer: Tokenizer) -> None:
    """A copy has settings of its own; what cannot leave the process says what to do."""
    tokenizer.padding_side, tokenizer.pad_token_id = "right", 97
    for copied in (copy.copy(tokenizer), copy.deepcopy(tokenizer)):
        assert copied("b", padding="max_length", max_length=2).input_ids.tolist() == [[98, 97]]
        copied.padding_side, copied.pad_token_id = "left", 98
        assert (tokenizer.padding_side, tokenizer.pad_token_id) == ("right", 97)
    with pytest.raises(TypeError, match=r"cannot be pickled: .* with LocalModel.from_pretrained"):
        pickle.dumps(tokenizer)
    with pytest.raises(TypeError, match="copy that file"):
        tokenizer.save_pretrained("a folder")


def test_what_describes_a_tokenizer() -> None:
    """Attributes that programs read."""
    tokenizer = fake_model().tokenizer
    assert tokenizer.name_or_path == "fake.gguf"
    assert tokenizer.model_input_names == ["input_ids", "attention_mask"]
    assert tokenizer.is_fast


def test_the_template_can_be_set(tokenizer: Tokenizer) -> None:
    """It stands in for the model's own until it is None again."""
    with pytest.raises(TemplateError, match="no chat template"):
        tokenizer.get_chat_template()
    tokenizer.chat_template = TEMPLATE
    assert tokenizer.chat_template == tokenizer.get_chat_template() == TEMPLATE
    assert tokenizer.apply_chat_template(HI, tokenize=False) == "Hi"
    assert tokenizer.get_chat_template("{{ 1 }}") == "{{ 1 }}"
    tokenizer.chat_template = None
    assert tokenizer.chat_template is None
    with pytest.raises(TypeError, match="chat_template must be a jinja template as text, got 3"):
        tokenizer.chat_template = 3  # type: ignore[assignment]


@dataclasses.dataclass
class Message:
    role: str
    content: str


@pytest.mark.parametrize("given", [HI, tuple(HI), (each for each in HI)])
def test_a_conversation(given: Any, tokenizer: Tokenizer) -> None:
    """Any iterable of messages is one conversation, and of those several."""
    assert tokenizer.apply_chat_template(given, chat_template=TEMPLATE, tokenize=False) == "Hi"
    several = (chat for chat in (HI, tuple(HI), iter(HI)))
    texts = tokenizer.apply_chat_template(several, chat_template=TEMPLATE, tokenize=False)
    assert texts == ["Hi"] * 3


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([], ValueError, "there are no messages: a conversation has at least one"),
        ([HI, []], ValueError, "conversation 1 has no messages"),
        (HI[0], TypeError, r"messages must be a list of messages, got a single one, .* in a list"),
        ([HI, HI[0]], TypeError, "conversation 1 must be a list of messages, got a single one"),
        ("Hi", TypeError, r"messages must be a list of dicts such as .*, got str"),
        (None, TypeError, r"messages must be a list of dicts such as .*, got NoneType"),
        (["Hi"], TypeError, "message 0 must be a dict with a 'role', got 'Hi'"),
        ([Message("user", "Hi")], TypeError, r"message 0 must be a dict .*dataclasses.asdict\(\)"),
        ([[Message("user", "Hi")]], TypeError, r"message 0 must be a dict .*dataclasses.asdict"),
    ],
)
def test_what_is_no_conversation(
    given: Any, error: type[Exception], message: str, tokenizer: Tokenizer
) -> None:
    """Regression: ``KeyError: 0``, or a raw exception of the template. ``chat()`` says the same."""
    with pytest.raises(error, match=message):
        tokenizer.apply_chat_template(given, chat_template=TEMPLATE)
    with pytest.raises(error, match=message):
        fake_model().chat(given, chat_template=TEMPLATE)


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
        tokenizer.encode(3)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="'np' or 'pt', got 'tf'"):
        tokenizer("a", return_tensors="tf")


def test_wrong_ids(tokenizer: Tokenizer) -> None:
    """decode() takes one sequence of integers."""
    with pytest.raises(ValueError, match=r"one sequence of token ids, got shape \(1, 2\)"):
        tokenizer.decode([[[97, 98]]])
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
