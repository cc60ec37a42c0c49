"""A vocabulary without its model encodes as the model's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from localgen import LocalModel
from localgen.errors import InvalidGGUFError
from localgen.llama.vocab_only import open_vocabulary
from localgen.text.tokenizer import Tokenizer


def test_it_encodes_as_the_loaded_model(tiny_bpe_path: Path) -> None:
    text = "hello the cat, 12 é"
    with LocalModel.from_pretrained(tiny_bpe_path, n_ctx=64, n_threads=1) as model:
        expected = model.tokenizer.encode(text)
    with open_vocabulary(tiny_bpe_path) as vocab:
        assert Tokenizer(vocab).encode(text) == expected


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(InvalidGGUFError), open_vocabulary(path):
        pass
