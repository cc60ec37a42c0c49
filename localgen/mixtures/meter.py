"""Measures the loss of model files against their source, whose predictions are stored once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from localgen.compare.metrics import TokenMetrics, Values
from localgen.compare.paired_evaluation import compare_chunk, rows_at_a_time
from localgen.compare.reference import LiveReference, StoredReference
from localgen.config import ModelConfig
from localgen.engine.backend import TokenIds
from localgen.errors import QuantizeError
from localgen.gguf.gate import ModelFile
from localgen.llama.backend import LlamaBackend
from localgen.llama.vocab_only import open_vocabulary
from localgen.text.chunks import chunks
from localgen.text.tokenizer import Tokenizer


def stored_predictions(n_ctx: int, n_chunks: int, n_vocab: int) -> int:
    """Return the bytes on the disk that a Meter needs."""
    return 2 * n_chunks * (n_ctx // 2) * n_vocab * 2


class Meter:
    """Holds a source's predictions for a text in two parts, one to search on, one to verify.

    Only one model is loaded at a time. Close it to remove the predictions from the disk.
    """

    def __init__(
        self, source: ModelFile, folder: Path, parts: Sequence[TokenIds], n_threads: int
    ) -> None:
        """Store the predictions. parts: of the text, an even number from ``text_parts``."""
        n_ctx = len(parts[0])
        self._config = ModelConfig(
            n_ctx=n_ctx,
            n_batch=rows_at_a_time(len(source.shards[0].tokens)),
            max_sequences=1,
            n_threads=n_threads,
        )
        self._n_chunks = len(parts) // 2
        self._parts = parts
        with self._open(source.path) as backend:
            self._stored = StoredReference(folder, self._parts, backend.n_vocab, backend.n_batch)
            self._store(backend)

    def _store(self, backend: LlamaBackend) -> None:
        try:
            live = LiveReference(backend, self._parts)
            for number in range(len(self._parts)):
                self._stored.take(live.blocks(number))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._stored.close()

    def searched(self, path: Path) -> float:
        """Return a file's mean KL divergence on the part to search on, in nats."""
        return float(np.mean(self._kld(path, range(self._n_chunks))))

    def verified(self, path: Path) -> Values:
        """Return a file's KL divergence for each token of the other part, in nats."""
        return self._kld(path, range(self._n_chunks, 2 * self._n_chunks))

    def _kld(self, path: Path, numbers: Sequence[int]) -> Values:
        reference = self._stored
        with self._open(path) as backend:
            found = [
                compare_chunk(reference.blocks(i), backend, self._parts[i], reference.n_rows)
                for i in numbers
            ]
        return TokenMetrics.joined(found).kld

    @contextmanager
    def _open(self, path: Path) -> Iterator[LlamaBackend]:
        with closing(LlamaBackend(path, self._config, adapts=False)) as backend:
            backend.reserve(1, self._config.n_ctx)
            yield backend


def text_parts(source: Path, text: str, n_ctx: int, n_chunks: int) -> list[TokenIds]:
    """Return ``n_chunks`` chunks of a text to search on, and as many to verify.

    Raises QuantizeError for a text that is too short, ValueError for an n_ctx that is too large.
    """
    with open_vocabulary(source) as vocab:
        if vocab.n_ctx_train is not None and n_ctx > vocab.n_ctx_train:
            raise ValueError(
                f"n_ctx={n_ctx} exceeds the {vocab.n_ctx_train} tokens the model was trained on; "
                f"use at most that"
            )
        token_ids = np.array(Tokenizer(vocab).encode(text), np.int32)
        bos = vocab.bos_token_id if vocab.adds_bos else None
    parts = chunks(token_ids, n_ctx, 2 * n_chunks, bos)
    if len(parts) < 2 * n_chunks:
        raise QuantizeError(
            f"the text has {len(token_ids)} tokens, and a search needs {2 * n_chunks * n_ctx}: "
            f"{n_chunks} chunks of n_ctx={n_ctx} to search on, and as many to verify. Use a "
            f"longer text, or a smaller n_chunks or n_ctx."
        )
    return parts
