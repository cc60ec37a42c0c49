"""What a vocabulary says of its tokens; the call of llama_tokenize, which is a fake here."""

from __future__ import annotations

import ctypes
import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gguf import TokenType

from localgen.llama.vocab import LlamaVocab
from models.make_tiny import END_OF_TEXT, IM_END, Vocab, bpe_vocab, spm_vocab
from tests.llama.vocab_files import load

UNKNOWN, START, END = range(3)  # <unk>, <s> and </s> of ``spm_vocab``


def test_more_tokens_than_there_is_room_for() -> None:
    """llama.cpp returns how many there are, below 0, and is asked again with that much room."""
    rooms: list[int] = []

    def tokenize(_vocab: Any, _text: bytes, _n: int, ids: Any, room: int, *_: bool) -> int:
        rooms.append(room)
        if room < 50:
            return -50
        for index in range(50):
            ids[index] = index
        return 50

    bindings = SimpleNamespace(llama_tokenize=tokenize, llama_token=ctypes.c_int32)
    fake: Any = SimpleNamespace(_llama=bindings, _vocab=None)
    assert LlamaVocab._tokenize(fake, b"ab", False, False).tolist() == [*range(50)]
    assert rooms == [10, 50]


def spm(end: TokenType, eos: int = START) -> Vocab:
    """A vocabulary whose ``</s>`` has a type of its own."""
    vocab = spm_vocab()
    types = [end if token_id == END else kind for token_id, kind in enumerate(vocab.types)]
    return dataclasses.replace(vocab, types=types, eos=eos)


@pytest.mark.parametrize(
    ("vocab", "template", "ends", "special"),
    [
        (spm(TokenType.CONTROL), None, (START, END), {UNKNOWN, START, END}),
        (spm(TokenType.NORMAL), None, (START,), {UNKNOWN, START}),
        (spm(TokenType.USER_DEFINED), None, (START,), {UNKNOWN, START}),
        (spm(TokenType.NORMAL), "{{ messages }}</s>", (START, END), {UNKNOWN, START, END}),
        (spm(TokenType.NORMAL, eos=END), None, (END,), {UNKNOWN, START, END}),
    ],
    ids=["control", "normal", "user defined", "in the template", "the file's own"],
)
def test_ends(
    vocab: Vocab, template: str | None, ends: tuple[int, ...], special: set[int], tmp_path: Path
) -> None:
    """Regression: llama.cpp ends at every </s>, which is HTML for gemma, and hid it in texts."""
    loaded = load(tmp_path / "vocab.gguf", vocab, template)
    assert loaded.eog_ids == ends
    assert {i for i in range(loaded.n_vocab) if loaded.is_special(i)} == special


def test_separators_of_infilling_are_no_ends(tmp_path: Path) -> None:
    """Regression: SmolLM2 ended at <reponame>. They are control tokens all the same."""
    vocab = bpe_vocab(eos=IM_END)
    names = ["<reponame>", "<|fim_pad|>", "<|file_sep|>"]
    vocab = dataclasses.replace(
        vocab,
        tokens=[*vocab.tokens, *names],
        types=[*vocab.types, *[TokenType.CONTROL] * len(names)],
    )
    loaded = load(tmp_path / "vocab.gguf", vocab)
    assert [vocab.tokens[i] for i in loaded.eog_ids] == [END_OF_TEXT, IM_END]
    assert all(loaded.is_special(vocab.tokens.index(name)) for name in names)


def test_types_and_spellings(tmp_path: Path) -> None:
    """As in the file; a space is spelled differently by each type of vocabulary."""
    loaded = load(tmp_path / "spm.gguf", spm_vocab())
    shown = {name: i for i, name in enumerate(spm_vocab().tokens)}
    for token, kind in (
        ("<unk>", "unknown"),
        ("</s>", "control"),
        ("<0x41>", "byte"),
        ("A", "normal"),
    ):
        assert loaded.token_type(shown[token]) == kind
        assert loaded.token_text(shown[token]) == token
    assert loaded.token_text(shown["\u2581the"]) == "\u2581the"
    assert loaded.token_bytes(shown["\u2581the"]) == b" the"
    assert loaded.unk_token_id == UNKNOWN
    byte_level = load(tmp_path / "bpe.gguf", bpe_vocab())
    assert byte_level.token_text(bpe_vocab().tokens.index("\u0120the")) == "\u0120the"
    assert byte_level.unk_token_id is None
