"""Opens the vocabulary of a model file without its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localgen.gguf import gate
from localgen.llama.library import llama
from localgen.llama.loading import Handles, load_model
from localgen.llama.vocab import LlamaVocab
from localgen.llama.vocab_trial import check_unknown_vocabulary


@contextmanager
def open_vocabulary(path: Path) -> Iterator[LlamaVocab]:
    """Open the vocabulary of a checked model file; it takes little memory and time.

    Raises ModelFileError for a file that cannot be used.
    """
    file = gate.check_model(path)
    check_unknown_vocabulary(file)
    bindings = llama()
    model = load_model(file.path, 0, None, vocab_only=True)
    handles = Handles(bindings, model)
    try:
        vocab = bindings.llama_model_get_vocab(model)
        yield LlamaVocab(vocab, file.metadata, handles.in_flight)
    finally:
        handles.free()
