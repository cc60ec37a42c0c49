"""What a tokenizer's call returns, on a fake vocabulary of bytes."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from localgen import Tokenizer
from localgen.text.batch_encoding import BatchEncoding
from tests.fakes import EOS, FakeVocab


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer(FakeVocab())


def test_columns(tokenizer: Tokenizer) -> None:
    """Each ``return_`` argument adds or removes its own."""
    assert [*tokenizer("ab")] == ["input_ids", "attention_mask"]
    assert [*tokenizer("ab", return_attention_mask=False)] == ["input_ids"]
    batch = tokenizer(
        ["é", "abc"],
        padding=True,
        return_token_type_ids=True,
        return_special_tokens_mask=True,
        return_offsets_mapping=True,
        return_length=True,
    )
    assert {name: batch[name].tolist() for name in batch} == {
        "input_ids": [[EOS, 0xC3, 0xA9], [97, 98, 99]],
        "attention_mask": [[0, 1, 1], [1, 1, 1]],
        "token_type_ids": [[0, 0, 0]] * 2,
        "special_tokens_mask": [[1, 0, 0], [0, 0, 0]],
        "offset_mapping": [[[0, 0], [0, 1], [0, 1]], [[0, 1], [1, 2], [2, 3]]],
        "length": [3, 3],
    }
    single = tokenizer("ab", return_length=True, return_offsets_mapping=True)
    assert single["length"] == [2]
    assert single["offset_mapping"] == [(0, 1), (1, 2)]


def test_a_text_of_a_batch(tokenizer: Tokenizer) -> None:
    """``batch[i]`` has everything about one text, padding included."""
    batch = tokenizer(["é<eos>", "abcd"], padding=True, truncation=True, max_length=3)
    first, second = batch.encodings or []
    assert batch[0] == batch[-2] == first
    assert first.ids == [0xC3, 0xA9, EOS]
    assert first.tokens == batch.tokens() == ["Ã", "©", "<eos>"]
    assert first.offsets == [(0, 1), (0, 1), (1, 6)]
    assert second.ids == [97, 98, 99]
    padded = tokenizer(["a", "abc"], padding=True)[0]
    assert (padded.ids, padded.attention_mask) == ([EOS, EOS, 97], [0, 0, 1])
    assert padded.special_tokens_mask == [1, 1, 0]
    assert padded.offsets == [(0, 0), (0, 0), (0, 1)]
    with pytest.raises(IndexError, match="no text 2: the batch has 2"):
        batch[2]


def test_columns_of_some_texts(tokenizer: Tokenizer) -> None:
    """A slice cuts each column."""
    batch = tokenizer(["a", "b", "c"])
    assert batch[1:] == {"input_ids": [[98], [99]], "attention_mask": [[1], [1]]}
    assert batch["input_ids"][0] == [97]
    assert batch.n_sequences == 1


def test_characters_and_tokens(tokenizer: Tokenizer) -> None:
    """Both directions; of several tokens in a character, the first."""
    batch = tokenizer(["aé", "b"], padding=True)
    assert batch.char_to_token(1) == batch.char_to_token(0, 1) == 1
    assert batch.char_to_token(1, 0) == 2
    assert batch.char_to_token(2) is None
    assert batch.token_to_chars(2) == (1, 2)
    assert batch.token_to_chars(1, 0) is None  # padding
    with pytest.raises(TypeError, match=r"localgen has no word_ids: .* use char_to_token"):
        batch.word_ids()


def test_conversion_to_tensors(tokenizer: Tokenizer) -> None:
    """Lists become int64 arrays, in place."""
    batch = tokenizer(["ab", "cd"])
    assert batch.convert_to_tensors("np") is batch
    assert batch["input_ids"].tolist() == [[97, 98], [99, 100]]
    assert batch["input_ids"].dtype == np.int64
    alone = tokenizer("ab").convert_to_tensors("np", prepend_batch_axis=True)
    assert alone["attention_mask"].shape == (1, 2)
    assert tokenizer("ab").convert_to_tensors()["input_ids"] == [97, 98]
    with pytest.raises(ValueError, match=r"input_ids has rows of different .* padding=True"):
        tokenizer(["a", "bc"]).convert_to_tensors("np")
    with pytest.raises(ValueError, match="None, 'np' or 'pt', got 'tf'"):
        batch.convert_to_tensors("tf")


def test_copies(tokenizer: Tokenizer) -> None:
    """A pickled copy has the columns; a shallow one its texts too."""
    batch = tokenizer("ab")
    for copied in (pickle.loads(pickle.dumps(batch)), copy.deepcopy(batch), batch.to("cpu")):
        assert copied == batch
    assert batch.to("cpu").tokens() == ["a", "b"]
    for without in (pickle.loads(pickle.dumps(batch)), BatchEncoding({"input_ids": [1]})):
        assert (without.encodings, without.n_sequences, without.is_fast) == (None, None, False)
        with pytest.raises(ValueError, match="was not made by a tokenizer's call"):
            without[0]


def as_lists(batch: BatchEncoding) -> dict[str, Any]:
    return {name: np.asarray(value).tolist() for name, value in batch.items()}


@pytest.mark.parametrize("tensors", [None, "np"])
def test_padding_of_what_was_encoded(tensors: str | None, tokenizer: Tokenizer) -> None:
    """``pad`` does what ``padding=True`` does, for lists, arrays, and a list of single texts."""
    texts = ["a", "bcd"]
    expected = as_lists(tokenizer(texts, padding=True))
    assert as_lists(tokenizer.pad(tokenizer(texts), return_tensors=tensors)) == expected
    singles = [tokenizer(text, return_special_tokens_mask=True) for text in texts]
    padded = as_lists(tokenizer.pad(singles, return_tensors=tensors))
    assert padded.pop("special_tokens_mask") == [[1, 1, 0], [0, 0, 0]]
    assert padded == expected
    ids = {"input_ids": [np.array([97]), np.array([98, 99, 100])]}
    assert as_lists(tokenizer.pad(ids, return_tensors=tensors)) == expected
    without = tokenizer.pad(tokenizer(texts), return_attention_mask=False, verbose=False)
    assert as_lists(without) == {"input_ids": expected["input_ids"]}
    wide = tokenizer.pad(tokenizer("a"), padding="max_length", max_length=2, padding_side="right")
    assert as_lists(wide) == {"input_ids": [[97, EOS]], "attention_mask": [[1, 0]]}


@pytest.mark.parametrize("given", ["a text", {}, [[1, 2]], {"attention_mask": [1]}])
def test_what_cannot_be_padded(given: Any, tokenizer: Tokenizer) -> None:
    with pytest.raises(TypeError, match=r"pad\(\) takes what the tokenizer returned"):
        tokenizer.pad(given)
    with pytest.raises(ValueError, match="input_ids is empty"):
        tokenizer.pad({"input_ids": []})
    with pytest.raises(ValueError, match="'labels' cannot be padded, only input_ids, attention"):
        tokenizer.pad({"input_ids": [[1], [2, 3]], "labels": [[1], [2, 3]]})
