"""Files with a vocabulary alone, as llama.cpp reads them."""

from __future__ import annotations

import os
from pathlib import Path

from gguf import GGUFWriter

from localgen.gguf.reader import read_gguf
from localgen.llama.in_flight_calls import InFlightCalls
from localgen.llama.library import llama
from localgen.llama.vocab import LlamaVocab
from models.make_tiny import Vocab, finish, write_vocab


def load(path: Path, vocab: Vocab, chat_template: str | None = None) -> LlamaVocab:
    """Write ``vocab`` to ``path`` and load it; it stays loaded until the process ends."""
    writer = GGUFWriter(path, "llama")
    write_vocab(writer, vocab, chat_template)
    finish(writer)
    lib = llama()
    params = lib.llama_model_default_params()
    params.vocab_only = True
    model = lib.llama_model_load_from_file(os.fsencode(path), params)
    assert model, path
    return LlamaVocab(lib.llama_model_get_vocab(model), read_gguf(path).metadata, InFlightCalls())
