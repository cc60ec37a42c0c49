"""Text → token ids → text, for any text, with each type of vocabulary of the tiny models."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from localgen import LocalModel, Tokenizer
from localgen.text.detokenizer import Detokenizer
from models.make_tiny import make_gemma_swa, make_llama_bpe, make_llama_spm, make_mamba

MODELS: dict[str, Callable[[Path], None]] = {
    "bpe": make_llama_bpe,
    "bpe with bos": lambda path: make_llama_bpe(path, add_bos=True),
    "spm": make_llama_spm,
    "spm without prefix": lambda path: make_llama_spm(path, add_space_prefix=False),
    "gemma": make_gemma_swa,
    "mamba": make_mamba,
}
SPECIALS = ("<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<0x41>")
PIECES = st.one_of(
    st.text(max_size=8),
    st.sampled_from((*SPECIALS, " ", "  ", "\n", "\r\n", "\t", "the", " the", "hello", "é", "\0")),
)
# SentencePiece writes a space as U+2581, and reads that as a space.
TEXTS = st.lists(PIECES, max_size=8).map("".join).filter(lambda text: "\u2581" not in text)


@pytest.fixture(scope="module", params=MODELS)
def tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tokenizer]:
    path: Path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    MODELS[request.param](path)
    with LocalModel.from_pretrained(path, n_ctx=64, n_threads=1) as model:
        yield model.tokenizer


@given(text=TEXTS)
@example(text="")
@example(text=" ")
@example(text="  a")
def test_as_plain_text(tokenizer: Tokenizer, text: str) -> None:
    """Nothing is lost, and no special token appears."""
    ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert not set(ids) & set(tokenizer.control_token_ids)
    assert tokenizer.decode(ids) == text


@given(text=TEXTS)
def test_with_special_tokens(tokenizer: Tokenizer, text: str) -> None:
    """What the model adds is marked, and the rest is the text alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a text that begins with BOS
        batch = tokenizer(text, return_special_tokens_mask=True)
    rows = zip(batch["input_ids"], batch["special_tokens_mask"], strict=True)
    own = [token_id for token_id, is_added in rows if not is_added]
    assert own == tokenizer.encode(text, add_special_tokens=False)


@given(text=TEXTS)
def test_tokens_one_by_one(tokenizer: Tokenizer, text: str) -> None:
    """A stream gives the same text; tokens and their spellings are one to one."""
    ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    stream = Detokenizer(tokenizer.token_bytes)
    for token_id in ids:
        stream.push(token_id)
    stream.finish()
    assert stream.text in (text, f" {text}")  # a space that the vocabulary adds
    assert tokenizer.convert_tokens_to_ids(tokenizer.convert_ids_to_tokens(ids)) == ids
    assert tokenizer.convert_tokens_to_string(tokenizer.convert_ids_to_tokens(ids)) == text


@given(text=TEXTS)
def test_places_in_the_text(tokenizer: Tokenizer, text: str) -> None:
    """Offsets cover the text without a hole, in order; each character has its token."""
    batch = tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
    )
    at = 0
    for start, end in batch["offset_mapping"]:
        assert at - 1 <= start <= at <= max(end, at)
        at = max(at, end)
    assert at == len(text)
    for index in range(len(text)):
        token = batch.char_to_token(index)
        assert token is not None
        start, end = batch.token_to_chars(token) or (-1, -1)
        assert start <= index < end
