"""The copy of a model with made-up tokens: the same text, a larger vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf import GGUFReader, GGUFValueType

from localgen import LocalModel
from models.extend_vocab import extend_vocab, made_up_tokens
from models.make_tiny import make_llama_bpe, make_llama_spm

N_TOKENS = 1000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, and its copy of N_TOKENS."""
    path = tmp_path_factory.mktemp("models")
    make_llama_bpe(path / "source.gguf", file_type="F16")
    extend_vocab(path / "source.gguf", path / "large.gguf", N_TOKENS)
    return path


def test_the_copy_writes_the_same_text_from_a_larger_vocabulary(folder: Path) -> None:
    found = []
    for name in ("source.gguf", "large.gguf"):
        with LocalModel.from_pretrained(folder / name, n_ctx=64, n_threads=1) as model:
            done = model.complete("hello the cat", max_new_tokens=8, eos_token_id=[])
            found.append((done.prompt_token_ids, done.token_ids))
            n_vocab = model.tokenizer.vocab_size
    assert found[0] == found[1]
    assert n_vocab == N_TOKENS


def test_the_same_file_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    extend_vocab(folder / "source.gguf", tmp_path / "again.gguf", N_TOKENS)
    assert (tmp_path / "again.gguf").read_bytes() == (folder / "large.gguf").read_bytes()


def test_all_other_metadata_stays(folder: Path) -> None:
    before, after = (
        {
            name: field.contents()
            for name, field in GGUFReader(folder / f"{file}.gguf").fields.items()
            if field.types[0] != GGUFValueType.ARRAY and not name.startswith("GGUF.")
        }
        for file in ("source", "large")
    )
    n_tokens = after.pop("llama.vocab_size")
    del before["llama.vocab_size"]
    assert (after, n_tokens) == (before, N_TOKENS)


def test_a_made_up_token_is_none_that_is_known() -> None:
    tokens = made_up_tokens(["\u0120a", "b"])
    assert [next(tokens) for _ in range(26)][::25] == ["\u0120b", "\u0120aa"]


def test_other_vocabularies_and_sizes_are_refused(folder: Path, tmp_path: Path) -> None:
    make_llama_spm(tmp_path / "spm.gguf")
    with pytest.raises(ValueError, match="byte-level BPE"):
        extend_vocab(tmp_path / "spm.gguf", tmp_path / "out.gguf")
    with pytest.raises(ValueError, match="has 1000 tokens"):
        extend_vocab(folder / "large.gguf", tmp_path / "out.gguf", N_TOKENS)
    assert not (tmp_path / "out.gguf").exists()
