"""Makes importance matrices: what each column of a model's weights is multiplied with in a text."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from localgen import hub
from localgen._util.call_signature import takes
from localgen._util.format import counted
from localgen._util.interrupts import DeferredInterrupt
from localgen._util.warn import warn
from localgen.engine.backend import Batch, PassStopped, TokenIds
from localgen.errors import GenerationInterrupted, QuantizeError
from localgen.gguf import gate
from localgen.gguf.fingerprint import fingerprint
from localgen.gguf.gate import ModelFile
from localgen.gguf.imatrix_file import Imatrix, read_sums
from localgen.gguf.imatrix_sums import Sums, merged
from localgen.llama.backend import LlamaBackend
from localgen.llama.input_sums import LEAST_ROWS, OUTPUT, InputSums
from localgen.quantization.calibration import CalibrationText, calibration_texts
from localgen.quantization.imatrix_check import layer_matrices
from localgen.quantization.imatrix_options import ImatrixOptions, Progress
from localgen.quantization.imatrix_result import (
    ImportanceMatrix,
    described,
    target_of,
    warn_of_gaps,
)
from localgen.text.chunks import chunks
from localgen.text.tokenizer import Tokenizer

_OTHERWISE = "resume=True continues it, and overwrite=True starts over"
_MOST_ROWS = 512
_LOGIT_BYTES = 2**28
_SECONDS_BETWEEN_SAVES = 60.0


@takes(ImatrixOptions)
def imatrix(options: ImatrixOptions) -> ImportanceMatrix:
    """Write an importance matrix of a model, as llama-imatrix does.

    source: as in ``LocalModel.from_pretrained``; best an F16 or BF16 file. texts: what to compute
    it on: a str is a text, a Path a UTF-8 file, several are joined; by default sources of Python's
    standard library. output: the GGUF file to write. n_ctx, n_chunks: use ``n_chunks`` chunks of
    ``n_ctx`` tokens; by default the whole text. process_output: include the output matrix. resume:
    continue what an interrupted run has written to ``output``. overwrite: start over and replace a
    matrix there. n_threads, device, n_gpu_layers,
    flash_attention, check_memory: as in ``LocalModel.from_pretrained``; "auto" turns flash
    attention off on a CPU. progress: called with (chunks done, all chunks, a word).

    The file is saved every minute; Ctrl-C saves it too and raises GenerationInterrupted, whose
    ``partial`` is the ImportanceMatrix so far. Warns of experts and columns without data. Raises
    ValueError for an argument, ModelFileError for the source, BackendError, and QuantizeError for a
    text that is too short, a matrix in ``output`` without ``resume`` or ``overwrite``, a file that
    cannot be resumed, or inputs that are not finite.
    """
    target = target_of(
        options.output, resume=options.resume, overwrite=options.overwrite, otherwise=_OTHERWISE
    )
    used = calibration_texts(options.texts)
    file = gate.check_model(hub.resolve(options.source))
    _check_output_matrix(file, options)
    origin = _origin(file, used, options)
    earlier = _earlier(target, origin, options.n_ctx) if options.resume else None
    sums = InputSums(with_output=options.process_output)
    config = options.loading(_rows_per_pass(options.n_ctx, len(file.shards[0].tokens)))
    backend = LlamaBackend(file.path, config, adapts=False, eval_callback=sums.callback)
    with closing(backend):
        parts = _parts(backend, used, options.n_ctx, options.n_chunks)
        run = _Run(backend, sums, target, used, origin, options.n_ctx, options.progress)
        run.add_earlier(earlier)
        try:
            with DeferredInterrupt() as interrupted:
                run.compute(parts, interrupted)
        except KeyboardInterrupt:
            stopped = GenerationInterrupted("the importance matrix was interrupted")
            stopped.partial = run.result(file) if run.n_done else None
            raise stopped from None
    done = run.result(file)
    warn_of_gaps(done)
    return done


# --- before anything runs ---


def _check_output_matrix(file: ModelFile, options: ImatrixOptions) -> None:
    if options.process_output and file.tensor(OUTPUT) is None:
        raise ValueError(
            f"process_output=True has no effect: {file.path.name} has no {OUTPUT}; its output "
            f"matrix is that of the token embeddings"
        )


def _origin(
    file: ModelFile, texts: Sequence[CalibrationText], options: ImatrixOptions
) -> dict[str, str | tuple[str, ...]]:
    """Return what must be the same for a run to be resumed."""
    found: dict[str, str | tuple[str, ...]] = {
        "model": fingerprint(*file.paths),
        "text_sha256": tuple(each.sha256 for each in texts),
        "process_output": str(options.process_output).lower(),
    }
    # Files that were made before there was a choice have no such entry.
    if options.flash_attention == "auto":
        return found
    return {**found, "flash_attention": options.flash_attention}


_NAMES = {
    "model": "model", "text_sha256": "text", "process_output": "process_output",
    "flash_attention": "flash_attention",
}  # fmt: skip


def _earlier(path: Path, origin: Mapping[str, str | tuple[str, ...]], n_ctx: int) -> Imatrix | None:
    """Return what an earlier run has written; None if there is no file. Raises QuantizeError."""
    if not path.exists():
        return None
    found = read_sums(path)
    if "model" not in found.origin:
        raise QuantizeError(
            f"{path} cannot be resumed: it was merged, or made by another program. Write to "
            f"another file, and merge both."
        )
    changed = [name for key, name in _NAMES.items() if found.origin.get(key) != origin.get(key)]
    changed += ["n_ctx"] if found.chunk_size != n_ctx else []
    if changed:
        raise QuantizeError(
            f"{path} cannot be resumed: it was made with a different {', '.join(changed)}. Use "
            f"the same to resume, or write to another file."
        )
    return found


def _rows_per_pass(n_ctx: int, n_vocab: int) -> int:
    """Return the tokens of a pass: equal parts of a chunk, whose logits fit in some memory."""
    most = max(4 * LEAST_ROWS, min(_MOST_ROWS, _LOGIT_BYTES // (4 * max(1, n_vocab))))
    n_passes = -(-n_ctx // most)
    return -(-n_ctx // n_passes)


def _parts(
    backend: LlamaBackend, texts: Sequence[CalibrationText], n_ctx: int, n_chunks: int | None
) -> list[TokenIds]:
    if n_ctx > backend.n_ctx_train:
        raise ValueError(
            f"n_ctx={n_ctx} exceeds the {backend.n_ctx_train} tokens the model was trained on; "
            f"use at most that"
        )
    text = "\n".join(each.text for each in texts)
    token_ids = np.array(Tokenizer(backend.vocab).encode(text), np.int32)
    bos = backend.vocab.bos_token_id if backend.vocab.adds_bos else None
    parts = chunks(token_ids, n_ctx, n_chunks, bos)
    if not parts:
        hint = " (a str is the text itself, a Path a file)"
        raise QuantizeError(
            f"the calibration text has {counted(len(token_ids), 'token')}, fewer than one chunk of "
            f"n_ctx={n_ctx}. Give a longer text{hint if _is_literal(texts) else ''} or a smaller "
            f"n_ctx."
        )
    if n_chunks is not None and len(parts) < n_chunks:
        warn(f"the calibration text has {counted(len(parts), 'chunk')}, not {n_chunks}")
    return parts


def _is_literal(texts: Sequence[CalibrationText]) -> bool:
    """Return whether a text was given itself: it may have been meant as the name of a file."""
    return any(each.is_literal for each in texts)


# --- the run ---


class _Run:
    """The sums of the chunks so far, and their file."""

    def __init__(
        self,
        backend: LlamaBackend,
        sums: InputSums,
        path: Path,
        texts: Sequence[CalibrationText],
        origin: Mapping[str, str | tuple[str, ...]],
        n_ctx: int,
        progress: Progress | None,
    ) -> None:
        self._backend = backend
        self._observed = sums
        self._path = path
        self._datasets = tuple(each.name for each in texts)
        self._origin = origin
        self._n_ctx = n_ctx
        self._progress = progress
        self._total: dict[str, Sums] = {}
        self._seconds = 0.0
        self.n_done = 0

    def add_earlier(self, earlier: Imatrix | None) -> None:
        if earlier is not None:
            self._total, self.n_done = dict(earlier.sums), earlier.n_chunks

    def compute(self, parts: Sequence[TokenIds], should_stop: Callable[[], bool]) -> None:
        """Add the chunks that are not done, and save them; whole ones only if it is stopped."""
        self._backend.reserve(1, self._n_ctx)
        started = saved = time.monotonic()
        for part in parts[self.n_done :]:
            self._tell(len(parts))
            if should_stop():  # short passes do not ask
                break
            try:
                found = self._sums_of(part, should_stop)
            except PassStopped:
                break
            self._total = merged([("", self._total), ("", found)])
            self.n_done += 1
            if time.monotonic() - saved > _SECONDS_BETWEEN_SAVES:
                self._save()
                saved = time.monotonic()
        self._seconds = time.monotonic() - started
        if self.n_done:
            self._save()
        self._tell(len(parts))

    def _tell(self, n_parts: int) -> None:
        if self._progress is not None:
            self._progress(self.n_done, n_parts, "chunks")

    def _sums_of(self, part: TokenIds, should_stop: Callable[[], bool]) -> dict[str, Sums]:
        backend = self._backend
        backend.forget()
        self._observed.take()
        for start in range(0, len(part), backend.n_batch):
            token_ids = np.ascontiguousarray(part[start : start + backend.n_batch])
            rows = np.arange(len(token_ids), dtype=np.int32)
            # All logits are asked for, else the last layer would see a single row.
            batch = Batch(token_ids, start + rows, np.zeros_like(rows), rows)
            self._observed.run(functools.partial(backend.decode, batch, should_stop))
        return self._observed.take()

    def _contents(self) -> Imatrix:
        return Imatrix(
            sums=self._total,
            datasets=self._datasets,
            n_chunks=self.n_done,
            chunk_size=self._n_ctx,
            origin=self._origin,
        )

    def _save(self) -> None:
        if not self._total:
            raise QuantizeError("the model multiplies nothing that an importance matrix is for")
        self._contents().write(self._path)

    def result(self, file: ModelFile) -> ImportanceMatrix:
        missing = tuple(name for name in layer_matrices(file) if name not in self._total)
        return described(self._contents(), self._path, missing, self._seconds)
