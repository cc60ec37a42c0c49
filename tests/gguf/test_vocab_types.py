"""Types of vocabulary: which ones the gate knows, and what holds for the others."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from gguf import GGUFWriter

from localgen import InvalidGGUFError
from localgen.gguf.gate import check_model
from localgen.gguf.vocab_types import PRE_TOKENIZERS, TYPES, unknown_type
from models.make_tiny import (
    LlamaShape,
    Vocab,
    bpe_vocab,
    finish,
    spm_vocab,
    write_llama,
    write_vocab,
)


def write(path: Path, vocab: Vocab) -> Path:
    writer = GGUFWriter(path, "llama")
    write_llama(writer, LlamaShape(), len(vocab.tokens), 0, "F32")
    write_vocab(writer, vocab)
    finish(writer)
    return path


def unknown(model: object, pre: object) -> str | None:
    given = {"tokenizer.ggml.model": model, "tokenizer.ggml.pre": pre}
    return unknown_type({key: value for key, value in given.items() if value is not None})  # type: ignore[misc]


def test_known_types() -> None:
    """Those of llama.cpp; only byte-level BPE has pre-tokenizers."""
    assert not [name for name in TYPES if unknown(name, None)]
    assert not [name for name in PRE_TOKENIZERS if unknown("gpt2", name)]
    assert unknown("llama", "made-up") is None
    assert unknown("gpt2", "") is None
    assert unknown(None, "made-up") is None


def test_unknown_types(tmp_path: Path) -> None:
    """The gate refuses none of them, and says which entry names the type."""
    pre = dataclasses.replace(bpe_vocab(), pre="made-up")
    file = check_model(write(tmp_path / "pre.gguf", pre))
    assert file.unknown_vocabulary == "tokenizer.ggml.pre='made-up'"
    spm = dataclasses.replace(spm_vocab(), model="t6")
    file = check_model(write(tmp_path / "model.gguf", spm))
    assert file.unknown_vocabulary == "tokenizer.ggml.model='t6'"
    assert unknown("x" * 10_000, None) == f"tokenizer.ggml.model='{'x' * 60}'"


def test_other_rules_hold_for_unknown_types(tmp_path: Path) -> None:
    """A repeated token kills llama.cpp whatever the type is."""
    vocab = bpe_vocab()
    twice = dataclasses.replace(vocab, model="t6", tokens=[*vocab.tokens[:-1], vocab.tokens[-2]])
    path = write(tmp_path / "twice.gguf", twice)
    with pytest.raises(InvalidGGUFError, match="appears twice"):
        check_model(path)
