"""What quantization costs: each variant is evaluated beside the reference, one after another."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from localgen._util.format import as_size
from localgen.compare import metrics
from localgen.compare.divergence import GreedyText
from localgen.compare.level_result import LevelResult
from localgen.compare.levels import Variant
from localgen.compare.metrics import TokenMetrics
from localgen.compare.pack_making import about_reference, make_pack
from localgen.compare.paired_evaluation import rows_at_a_time
from localgen.compare.record import Record
from localgen.compare.reference import LiveReference, PackedReference, Reference, StoredReference
from localgen.compare.settings import Settings
from localgen.config import ModelConfig
from localgen.engine.backend import TokenIds
from localgen.errors import CompareError, LocalgenError
from localgen.llama import fitting
from localgen.llama.backend import LlamaBackend
from localgen.text.chunks import chunks
from localgen.text.tokenizer import Tokenizer


class Quality:
    """Measures perplexity and the divergence from the reference."""

    def __init__(self, settings: Settings, record: Record, reference: Variant) -> None:
        self._settings = settings
        self._record = record
        self._reference = reference

    def measure(self, variants: Sequence[Variant]) -> None:
        """Measure each variant without a result, and the reference against itself."""
        record = self._record
        todo = [variant for variant in variants if record[variant].kld_mean is None]
        with ExitStack() as stack:
            reference, parts = self._open_reference(stack, todo)
            lacks_noise = record.noise is None and self._settings.reference_pack is None
            record.plan(len(parts) * (len(todo) + lacks_noise))
            for variant in todo:
                try:
                    self._measure_one(reference, variant, parts)
                except LocalgenError as error:
                    record.fail(variant, error)
            if lacks_noise:
                self._measure_noise(reference, parts)

    def save_pack(self, path: Path, texts: Sequence[GreedyText]) -> None:
        """Write a reference pack, with the reference's greedy ``texts``. Raises OSError."""
        record, reference = self._record, self._reference
        with self._backend(reference) as backend:
            parts = self._parts(backend)
            record.plan(len(parts))
            about = about_reference(
                record[reference],
                reference.file,
                parts,
                text_sha256=self._settings.text_sha256,
                texts=texts,
            )
            live = LiveReference(backend, parts)
            note = make_pack(
                path, about, live, parts, lambda: record.step(f"packing {reference.label}")
            )
        record.note(note)

    # --- the reference ---

    def _open_reference(
        self, stack: ExitStack, others: list[Variant]
    ) -> tuple[Reference, list[TokenIds]]:
        """Open the reference until ``stack`` closes: a pack, or loaded, or in a file if memory is
        short."""
        if (pack := self._settings.reference_pack) is not None:
            return PackedReference(pack, rows_at_a_time(pack.about.n_vocab)), pack.parts
        if self._fits_beside([*others, self._reference]):
            backend = stack.enter_context(self._backend(self._reference))
            parts = self._parts(backend)
            return LiveReference(backend, parts), parts
        with self._backend(self._reference) as backend:
            parts = self._parts(backend)
            stored = self._stored(stack, backend, parts)
        self._record.note(
            f"{self._reference.level.name} and another level do not fit in memory together: its "
            f"log-probabilities were stored on disk ({as_size(stored.n_bytes)}), each off by at "
            f"most {stored.step / 2:.1g}"
        )
        return stored, parts

    def _fits_beside(self, others: list[Variant]) -> bool:
        """Return whether the reference fits in memory together with any one of ``others``."""
        reference = self._reference.file, self._config(self._reference)
        return all(
            fitting.fit_together([reference, (other.file, self._config(other))]) for other in others
        )

    def _stored(
        self, stack: ExitStack, backend: LlamaBackend, parts: list[TokenIds]
    ) -> StoredReference:
        """Store the loaded reference's predictions for all chunks until ``stack`` closes."""
        folder = Path(tempfile.gettempdir())
        stored = StoredReference(folder, parts, backend.n_vocab, backend.n_batch)
        stack.callback(stored.close)
        live = LiveReference(backend, parts)
        self._record.plan(len(parts))
        for number in range(len(parts)):
            stored.take(live.blocks(number))
            self._record.step(f"storing {self._reference.level.name}")
        return stored

    def _parts(self, reference: LlamaBackend) -> list[TokenIds]:
        vocab = reference.vocab
        n_ctx, n_chunks = self._settings.n_ctx, self._settings.n_chunks
        token_ids = np.array(Tokenizer(vocab).encode(self._settings.text), np.int32)
        bos = vocab.bos_token_id if vocab.adds_bos else None
        parts = chunks(token_ids, n_ctx, n_chunks, bos)
        if not parts:
            raise CompareError(
                f"the text has {len(token_ids)} tokens, fewer than one chunk of n_ctx={n_ctx}. "
                f"Use a longer text or a smaller n_ctx."
            )
        if n_ctx > reference.n_ctx_train:
            self._record.note(
                f"n_ctx={n_ctx} exceeds the {reference.n_ctx_train} tokens the model was trained "
                f"on, beyond which no level predicts well"
            )
        if len(parts) < n_chunks:
            self._record.note(f"the text has {len(parts)} chunks, not {n_chunks}")
        return parts

    # --- models ---

    @contextmanager
    def _backend(
        self, variant: Variant, config: ModelConfig | None = None
    ) -> Iterator[LlamaBackend]:
        """Load a variant, with a context for one chunk; ``config`` replaces its own."""
        backend = LlamaBackend(variant.path, config or self._config(variant), adapts=False)
        try:
            backend.reserve(1, self._settings.n_ctx)
            self._record.set(variant, flash_attention=backend.flash_attention)
            yield backend
        finally:
            backend.close()

    def _config(self, variant: Variant) -> ModelConfig:
        """Return a configuration for one chunk, with one block of rows per pass."""
        return variant.config(
            n_ctx=self._settings.n_ctx,
            n_threads=self._settings.n_threads,
            n_batch=rows_at_a_time(len(variant.file.shards[0].tokens)),
            max_sequences=1,
        )

    # --- paired evaluations ---

    def _measure_one(self, reference: Reference, variant: Variant, parts: list[TokenIds]) -> None:
        with self._backend(variant) as candidate:
            found = self._evaluate(reference, candidate, parts, variant.label)
        self._record.set(variant, **_as_fields(found))
        if self._record[self._reference].perplexity is None:
            self._record.set(self._reference, **_as_fields(_of_reference(found)))

    def _measure_noise(self, reference: Reference, parts: list[TokenIds]) -> None:
        """Evaluate the reference against itself, with half the threads and half the batch."""
        itself, record = self._reference, self._record
        name = f"{itself.level.name} against itself"
        config = dataclasses.replace(
            self._config(itself),
            n_threads=max(1, self._settings.n_threads // 2),
            n_batch=max(1, reference.n_rows // 2),
        )
        with self._backend(itself, config) as again:
            found = self._evaluate(reference, again, parts, name)
        record.noise = LevelResult(
            name=name, kv_type=itself.kv_type, device=str(itself.device), **_as_fields(found)
        )
        if record[itself].perplexity is None:  # the reference is the only level
            record.set(itself, **_as_fields(found))
        record.save()

    def _evaluate(
        self, reference: Reference, candidate: Any, parts: list[TokenIds], what: str
    ) -> TokenMetrics:
        found = []
        for number in range(len(parts)):
            found.append(reference.compare(number, candidate))
            self._record.step(f"quality of {what}")
        return TokenMetrics.joined(found)


def _of_reference(found: TokenMetrics) -> TokenMetrics:
    """Return what a paired evaluation says about the reference itself."""
    return dataclasses.replace(
        found,
        nll=found.nll_reference,
        kld=np.zeros_like(found.kld),
        delta_p=np.zeros_like(found.kld),
        same_top=np.ones_like(found.kld),
        confidence=found.confidence_reference,
        is_right=found.is_right_reference,
        kld_variance=np.zeros_like(found.kld),
    )


def _as_fields(found: TokenMetrics) -> dict[str, Any]:
    return dataclasses.asdict(metrics.quality(found))
