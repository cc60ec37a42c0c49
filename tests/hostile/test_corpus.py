"""Thousands of bad files, each opened in a child process: an error with a reason, or a model that
generates; never a crash, a hang or much memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from localgen import InvalidGGUFError
from localgen.gguf.gate import check_model
from models.make_tiny import make_gemma_swa, make_llama_bpe, make_llama_spm, make_mamba
from tests.hostile.mutations import added, bad_files, fields_of
from tests.hostile.opener import open_files

MAKERS: dict[str, Callable[[Path], None]] = {
    "llama, BPE": make_llama_bpe,
    "llama, SentencePiece": make_llama_spm,
    "gemma": make_gemma_swa,
    "mamba": make_mamba,
}
# What these have in common with another one, as a vocabulary, is changed there.
BUT_FOR = {
    "llama, SentencePiece": "llama, BPE",
    "gemma": "llama, SentencePiece",
    "mamba": "llama, BPE",
}
FEWEST = 600


def refusal(path: Path) -> str | None:
    """What the gate says against a file."""
    try:
        check_model(path)
    except InvalidGGUFError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", MAKERS)
def test_bad_files(kind: str, tmp_path: Path) -> None:
    """The gate or llama.cpp refuses a file, or it is good enough to run."""
    good = tmp_path / "good.gguf"
    MAKERS[kind](good)
    data = good.read_bytes()
    others = []
    if kind in BUT_FOR:
        MAKERS[BUT_FOR[kind]](tmp_path / "other.gguf")
        others.append((tmp_path / "other.gguf").read_bytes())
    refused, names, passed = 0, {}, []
    for number, bad in enumerate(bad_files(data, seed=len(kind), but_for=others)):
        path = tmp_path / f"bad-{number}.gguf"
        path.write_bytes(bad.data)
        if (reason := refusal(path)) is None:
            names[path] = bad.name
            passed.append(path)
        else:
            assert str(path) in reason
            refused += 1
            path.unlink()
    found = open_files([good, *passed])
    assert found.pop(good) == "generated"
    bad_ends = {
        names[path]: end for path, end in found.items() if end not in ("refused", "generated")
    }
    assert not bad_ends, bad_ends
    ends = Counter(found.values())
    assert refused + sum(ends.values()) >= FEWEST
    assert refused > 0
    assert ends["generated"] > 0


def test_fields_are_all_there(tiny_bpe_path: Path) -> None:
    """The mutations reach every part of the file before the weights."""
    fields = fields_of(tiny_bpe_path.read_bytes())
    names = {field.name for field in fields}
    assert {"magic", "version", "tensor count", "key count", "token_embd.weight offset"} <= names
    assert "tokenizer.ggml.tokens[0]" in names
    assert {field.kind for field in fields} == {"int", "text", "float32"}


def test_added_keys_are_read(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """A file with one more key is otherwise the good one: it generates if the key is harmless."""
    files = {file.name: file.data for file in added(tiny_bpe_path.read_bytes())}
    path = tmp_path / "more.gguf"
    path.write_bytes(files["llama.rope.scaling.type: b'yarn', added"])
    assert open_files([path]) == {path: "generated"}
