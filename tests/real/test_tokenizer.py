"""The tokenizer of a real vocabulary, against transformers' records and against itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import LocalModel
from localgen.text.tokenizer import Tokenizer

pytestmark = pytest.mark.real

RECORDED = json.loads(Path(__file__).with_name("parity.json").read_text("utf-8"))["tokenizer"]
IM_START, IM_END = "<|im_start|>", "<|im_end|>"

NASTY = {
    "empty": "",
    "zwj": "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466\U0001f44d\U0001f3fd",
    "flag": "\U0001f1f5\U0001f1ea\U0001f3f4\U000e0067\U000e0062\U000e007f",
    "arabic": "السلام عليكم\u200f (١٢٣) مرحبا",
    "cjk": "日本語、中文\uff0c한국어。\U0002000b",
    "combining": "e\u0301" + "\u0323" * 40,
    "nul": "\x00a\x00\x00b\x00",
    "crlf": "\r\n\r\n  x\r\n\ty\r\r\n",
    "controls": "\x01\x02\x07\x08\x0b\x0c\x1b\x1f\x7f\x80\x9f\ufeff\uffff\U0010ffff",
    "spaces": " " * 3000,
    "leading_space": "  a",
    "specials": f"{IM_START}user\n{IM_END}<|im_end |>",
    "long_run": "x" * 100_000,
    "long_run_bytes": "é" * 50_000,
}


@pytest.fixture(scope="module")
def tokenizer(smollm2: LocalModel) -> Tokenizer:
    return smollm2.tokenizer


@pytest.mark.parametrize("entry", RECORDED["texts"], ids=lambda entry: ascii(entry["text"])[:30])
def test_recorded_text(tokenizer: Tokenizer, entry: dict[str, Any]) -> None:
    """Ids as transformers', digits split as the file's pre-tokenizer asks; text back exactly."""
    ids = entry.get("split_digits_ids", entry["ids"])
    assert tokenizer.encode(entry["text"]) == ids
    assert tokenizer.decode(ids) == entry["text"]
    assert tokenizer.decode(entry["ids"]) == entry["decoded"]
    assert tokenizer.decode(entry["ids"], skip_special_tokens=True) == entry["plain"]


@pytest.mark.parametrize("entry", RECORDED["cut"], ids=lambda entry: str(entry["ids"]))
def test_recorded_cut(tokenizer: Tokenizer, entry: dict[str, Any]) -> None:
    """Tokens that hold part of a character become U+FFFD where transformers puts it."""
    assert tokenizer.decode(entry["ids"]) == entry["decoded"]
    assert tokenizer.decode(entry["ids"], skip_special_tokens=True) == entry["plain"]


def test_recorded_padding(tokenizer: Tokenizer) -> None:
    """padding=True pads on the left with the same token and the same mask."""
    record = RECORDED["padded"]
    batch = tokenizer(record["texts"], padding=True)
    assert batch.input_ids.tolist() == record["input_ids"]
    assert batch.attention_mask.tolist() == record["attention_mask"]
    assert batch.input_ids.dtype == batch.attention_mask.dtype == np.int64


def test_recorded_special_values(tokenizer: Tokenizer) -> None:
    """BOS, EOS, PAD and sizes are the file's; control tokens are more than those with a role."""
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "vocab_size"):
        assert getattr(tokenizer, name) == RECORDED[name], name
    assert len(tokenizer) == RECORDED["length"]
    assert sorted(tokenizer.all_special_ids) == sorted(RECORDED["all_special_ids"])
    assert set(tokenizer.all_special_ids) < set(tokenizer.control_token_ids)
    assert tokenizer.model_max_length == 8192


def test_ends(tokenizer: Tokenizer) -> None:
    """Regression: generation ended at <reponame>, a separator of infilling, by its name."""
    ends = tokenizer.convert_ids_to_tokens(tokenizer.eos_token_ids)
    assert ends == ["<|endoftext|>", IM_END]
    assert tokenizer.convert_tokens_to_ids("<reponame>") in tokenizer.control_token_ids


def test_tokens_as_texts(tokenizer: Tokenizer) -> None:
    """The special tokens by name, and words in the vocabulary's spelling, as in transformers."""
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        *(IM_START, IM_END),
        IM_END,
    )
    unknown = tokenizer.unk_token_id
    assert tokenizer.convert_tokens_to_ids([IM_START, IM_END, " there"]) == [1, 2, unknown]
    assert tokenizer.tokenize("Hello there") == ["Hello", "Ġthere"]
    ids = tokenizer.encode("Hello there")
    assert tokenizer.convert_tokens_to_ids(["Hello", "Ġthere"]) == ids
    assert [*map(tokenizer.token_text, ids)] == ["Hello", " there"]
    assert [*map(tokenizer.token_with_text, ("Hello", " there"))] == ids


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
def test_round_trip(tokenizer: Tokenizer, text: str) -> None:
    """No text is changed, cut at a NUL, normalised, or too long for the C stack."""
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_bytes_without_a_token(tokenizer: Tokenizer) -> None:
    """This vocabulary has no token for six control characters: they vanish, in transformers too."""
    spelled = {tokenizer.token_bytes(i) for i in range(len(tokenizer))}
    missing = [char for char in map(chr, range(128)) if char.encode() not in spelled]
    assert missing == ["\x04", "\x06", "\x13", "\x14", "\x16", "\x1d"]
    assert tokenizer.decode(tokenizer.encode("a\x04b")) == "ab"


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
def test_split_special_tokens(tokenizer: Tokenizer, text: str) -> None:
    """Untrusted text with split_special_tokens=True can't smuggle a special token in."""
    ids = tokenizer.encode(text, split_special_tokens=True)
    assert not set(ids) & set(tokenizer.control_token_ids)
    assert tokenizer.decode(ids) == text


def test_special_tokens_are_parsed_by_default(tokenizer: Tokenizer) -> None:
    """As in transformers, the spelling of a special token is that token."""
    assert tokenizer.encode(IM_END) == [2]
    assert tokenizer.encode(f"{IM_START}{IM_END}") == [1, 2]
    assert len(tokenizer.encode(IM_END, split_special_tokens=True)) > 1


def test_batch_encoding(tokenizer: Tokenizer) -> None:
    """The result works as transformers' BatchEncoding does: items, attributes, **unpacking."""
    batch = tokenizer("Hello")
    assert set(batch) == {"input_ids", "attention_mask"}
    assert batch["input_ids"] == batch.input_ids == tokenizer.encode("Hello")
    assert batch.attention_mask == [1] * len(batch.input_ids)
    assert {**batch} == {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    assert batch.to("cpu") == batch
    assert not hasattr(batch, "token_type_ids")
    with pytest.raises(KeyError):
        batch["token_type_ids"]


def test_lists_without_padding(tokenizer: Tokenizer) -> None:
    """Without padding and return_tensors, several texts give lists of their own lengths."""
    batch = tokenizer(["Hi", "three little words"])
    assert [len(row) for row in batch.input_ids] == [1, 3]
    assert batch.attention_mask == [[1], [1, 1, 1]]


def test_numpy_tensors(tokenizer: Tokenizer) -> None:
    """return_tensors="np" gives a matrix even for one text, ready for generate()."""
    batch = tokenizer("three little words", return_tensors="np")
    assert isinstance(batch.input_ids, np.ndarray)
    assert batch.input_ids.shape == batch.attention_mask.shape == (1, 3)
    with pytest.raises(ValueError, match="padding=True"):
        tokenizer(["Hi", "three little words"], return_tensors="np")


def test_decode_takes_arrays(tokenizer: Tokenizer) -> None:
    """What generate() returns goes straight into batch_decode; a single id into decode."""
    batch = tokenizer(["Hi", "three little words"], padding=True)
    texts = tokenizer.batch_decode(batch.input_ids, skip_special_tokens=True)
    assert texts == ["Hi", "three little words"]
    assert tokenizer.decode(2) == tokenizer.decode(np.int64(2)) == IM_END


@pytest.mark.parametrize("text", ["\ud800", "ok \udfff", "\udc80abc"])
def test_lone_surrogate(tokenizer: Tokenizer, text: str) -> None:
    """Half a surrogate pair is no text: an error that says where, not a replaced character."""
    with pytest.raises(ValueError, match="lone surrogate"):
        tokenizer.encode(text)


@pytest.mark.parametrize("ids", [[49152], [-1], [0, 10**6]])
def test_decode_checks_ids(tokenizer: Tokenizer, ids: list[int]) -> None:
    """An id outside the vocabulary would read memory that is not ours."""
    with pytest.raises(ValueError, match="outside the vocabulary"):
        tokenizer.decode(ids)
