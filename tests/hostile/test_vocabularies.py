"""Vocabularies of every type: deadly ones are refused, sound ones load.

Files are opened in a child process, which encodes and decodes with each.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFWriter, TokenType

from localgen import InvalidGGUFError
from localgen.gguf.gate import check_model
from models.make_tiny import LlamaShape, Vocab, bpe_vocab, finish, spm_vocab, write_llama
from tests.hostile.opener import open_files

Extra = Callable[[GGUFWriter], Any]
SPM, BPE = spm_vocab(), bpe_vocab()
NORMAL = [TokenType.NORMAL] * len(SPM.tokens)


def like(vocab: Vocab, model: str, **changes: Any) -> Vocab:
    """``vocab`` under the name of another type."""
    return dataclasses.replace(vocab, model=model, **changes)


def rwkv(*, without: bytes = b"", more: tuple[str, ...] = ()) -> Vocab:
    """Single bytes, as llama.cpp's converter writes them, and a word."""
    single = [repr(bytes([b]))[2:-1] for b in range(256) if b not in without]
    tokens = ["<s>", *single, "the", *more]
    types = [TokenType.CONTROL, *[TokenType.NORMAL] * (len(tokens) - 1)]
    return dataclasses.replace(SPM, model="rwkv", tokens=tokens, types=types, scores=None)


def charsmap(entries: dict[int, int], texts: bytes, n_entries: int = 256) -> Extra:
    """A map whose array has ``entries`` by index, followed by ``texts``."""
    array = struct.pack(f"<{n_entries}I", *[entries.get(i, 0) for i in range(n_entries)])
    blob = struct.pack("<I", len(array)) + array + texts
    return lambda writer: writer.add_precompiled_charsmap(blob)


def entry(byte: int, offset: int) -> int:
    """A replacement ends with this byte; the place of its text is at the entry's index ^ offset."""
    return byte | 1 << 8 | offset << 10


# From the root, node 0, the byte "h" leads to entry 0x68; its text's place is in entry 0x01.
H, PLACE = 0x68, 0x01
H_TO_PLACE = entry(H, H ^ PLACE)
VALUE = 1 << 31  # a bit that no byte has
T5 = like(SPM, "t5")


def add_eos(writer: GGUFWriter) -> None:
    writer.add_add_eos_token(True)


def integer_scores(writer: GGUFWriter) -> None:
    writer.add_array("tokenizer.ggml.scores", [-i for i in range(len(SPM.tokens))])


def no_extra(writer: GGUFWriter) -> None:
    pass


def write(path: Path, vocab: Vocab, extra: Extra, *, bos: bool = True) -> Path:
    """A tiny llama with ``vocab``; ``bos``: whether the file has the id of BOS."""
    writer = GGUFWriter(path, "llama")
    write_llama(writer, LlamaShape(), len(vocab.tokens), 0, "F32")
    writer.add_tokenizer_model(vocab.model)
    writer.add_tokenizer_pre(vocab.pre)
    writer.add_token_list(vocab.tokens)
    writer.add_token_types(vocab.types)
    if vocab.scores is not None:
        writer.add_token_scores(vocab.scores)
    if vocab.merges is not None:
        writer.add_token_merges(vocab.merges)
    if bos:
        writer.add_bos_token_id(vocab.bos)
    writer.add_add_bos_token(vocab.add_bos)
    extra(writer)
    finish(writer)
    return path


def first(n_tokens: int, vocab: Vocab) -> Vocab:
    """Only the first tokens of a byte-level vocabulary."""
    return dataclasses.replace(
        vocab, tokens=vocab.tokens[:n_tokens], types=vocab.types[:n_tokens], merges=[]
    )


def with_tokens(vocab: Vocab, *tokens: str) -> Vocab:
    """``vocab`` with other tokens at its end."""
    kept = vocab.tokens[: -len(tokens)]
    return dataclasses.replace(vocab, tokens=[*kept, *tokens])


# Each (vocabulary, more keys, whether BOS has an id), and a part of the reason.
BAD: dict[str, tuple[Vocab, Extra, bool, str]] = {
    "no_vocab": (like(SPM, "no_vocab"), no_extra, True, "without tokens"),
    "none": (like(SPM, "none"), no_extra, True, "without tokens"),
    "byte-level BPE split at white space": (
        dataclasses.replace(BPE, pre="whitespace"),
        no_extra,
        True,
        "abort at two spaces",
    ),
    "t5 without BOS": (like(SPM, "t5", add_bos=True), no_extra, False, "bos_token_id"),
    "gemma4 without BOS": (like(BPE, "gemma4"), no_extra, False, "bos_token_id"),
    "gemma4 without EOS": (like(BPE, "gemma4"), add_eos, True, "eos_token_id"),
    "gpt2 of gemma4 without BOS": (
        first(11, dataclasses.replace(BPE, pre="gemma4", add_bos=False)),
        no_extra,
        False,
        "bos_token_id",
    ),
    "gpt2 of glm4 without BOS": (
        dataclasses.replace(BPE, pre="glm4", add_bos=True),
        no_extra,
        False,
        "bos_token_id",
    ),
    "bert with byte tokens": (like(SPM, "bert"), no_extra, True, "token 3, b'<0x00>'"),
    "bert without separator": (
        first(102, like(SPM, "bert", types=NORMAL, scores=None)),
        no_extra,
        True,
        "seperator_token_id",
    ),
    "charsmap that leaves its array": (
        T5,
        charsmap({H: entry(H, 0x1FFFFF)}, b"ab\0"),
        True,
        "leads out",
    ),
    "charsmap that leaves its texts": (
        T5,
        charsmap({H: H_TO_PLACE, PLACE: VALUE | 3}, b"ab\0"),
        True,
        "leads out",
    ),
    "charsmap with a text without end": (
        T5,
        charsmap({H: H_TO_PLACE, PLACE: VALUE | 1}, b"\0ab"),
        True,
        "leads out",
    ),
    "charsmap of an odd size": (
        T5,
        charsmap({H: H_TO_PLACE, PLACE: VALUE}, b"ab\0", n_entries=200),
        True,
        "leads out",
    ),
    "rwkv without a byte": (
        rwkv(without=b"h", more=("hex",)),
        no_extra,
        True,
        "lacks 1 of the 256 single-byte tokens",
    ),
    "t5 with a long token": (with_tokens(T5, "x" * 200_000), no_extra, True, "200000 bytes"),
    "the name of an empty token": (
        with_tokens(BPE, "", f"[EMPTY_{len(BPE.tokens) - 2}]"),
        no_extra,
        True,
        "appears twice",
    ),
}
GOOD: dict[str, tuple[Vocab, Extra, bool]] = {
    "llama": (SPM, no_extra, True),
    "llama without ids": (SPM, add_eos, False),
    "llama with integer scores": (like(SPM, "llama", scores=None), integer_scores, True),
    "gpt2": (BPE, no_extra, True),
    "gpt2 without ids": (dataclasses.replace(BPE, add_bos=True), add_eos, False),
    "gpt2 of glm4 without BOS": (dataclasses.replace(BPE, pre="glm4"), no_extra, False),
    "hybriddna": (like(BPE, "hybriddna"), no_extra, True),
    "whitespace": (like(BPE, "whitespace"), no_extra, True),
    "whitespace, split at it": (like(BPE, "whitespace", pre="whitespace"), no_extra, True),
    "gemma4": (like(BPE, "gemma4"), no_extra, True),
    "bert": (like(SPM, "bert", types=NORMAL), no_extra, False),
    "t5": (T5, no_extra, True),
    "t5 without BOS": (like(SPM, "t5", add_bos=False), no_extra, False),
    "t5 with a charsmap": (T5, charsmap({H: H_TO_PLACE, PLACE: VALUE | 2}, b"a\0b\0"), True),
    "rwkv": (rwkv(), no_extra, False),
    "plamo2": (like(SPM, "plamo2"), no_extra, True),
    "several empty tokens": (with_tokens(BPE, "", ""), no_extra, True),
}


@pytest.mark.parametrize("kind", BAD)
def test_deadly_vocabulary(kind: str, tmp_path: Path) -> None:
    """llama.cpp would abort, hang, or overflow its stack: refused, with a reason."""
    vocab, extra, bos, reason = BAD[kind]
    path = write(tmp_path / "bad.gguf", vocab, extra, bos=bos)
    with pytest.raises(InvalidGGUFError, match=reason):
        check_model(path)


def test_deadly_vocabularies_are_survived(tmp_path: Path) -> None:
    """End to end: a child that opens one after another survives."""
    paths = [
        write(tmp_path / f"{number}.gguf", vocab, extra, bos=bos)
        for number, (vocab, extra, bos, _) in enumerate(BAD.values())
    ]
    found = open_files(paths)
    assert dict(zip(BAD, found.values(), strict=True)) == dict.fromkeys(BAD, "refused")


def test_sound_vocabularies_are_taken(tmp_path: Path) -> None:
    """Every type that llama.cpp has, with optional keys left out."""
    paths = [
        write(tmp_path / f"{number}.gguf", vocab, extra, bos=bos)
        for number, (vocab, extra, bos) in enumerate(GOOD.values())
    ]
    found = open_files(paths)
    assert dict(zip(GOOD, found.values(), strict=True)) == dict.fromkeys(GOOD, "generated")
