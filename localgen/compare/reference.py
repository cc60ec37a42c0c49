"""Compares a level with the reference, chunk by chunk: the model itself, or what a file has of it.

A file of logits is used if the reference and another level do not fit in memory together; a
reference pack instead of the model, which need not be there.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from localgen._util.format import as_size
from localgen.compare.metrics import TokenMetrics
from localgen.compare.packed_rows import Packed, pack_rows, packed_metrics
from localgen.compare.paired_evaluation import compare_chunk, scored_blocks
from localgen.compare.reference_pack import ReferencePack
from localgen.engine.backend import Backend, Logits, TokenIds
from localgen.errors import CompareError

Blocks = Iterator[tuple[Logits, TokenIds]]
_MOST = np.iinfo(np.uint16).max
_SPARE_BYTES = 2**26
_INSTEAD = "Use fewer chunks, a reference with fewer bits, or another TMPDIR."


class Reference(Protocol):
    """What levels are compared with, ``n_rows`` rows of logits at a time."""

    n_rows: int

    def compare(self, number: int, candidate: Backend) -> TokenMetrics:
        """Evaluate the candidate on a chunk, by its number, and compare it with the reference."""


class LiveReference:
    """A loaded model, which evaluates each chunk again for each level."""

    def __init__(self, backend: Backend, parts: Sequence[TokenIds]) -> None:
        self.n_rows = backend.n_batch
        self._backend = backend
        self._parts = parts

    def compare(self, number: int, candidate: Backend) -> TokenMetrics:
        return compare_chunk(self.blocks(number), candidate, self._parts[number], self.n_rows)

    def blocks(self, number: int) -> Blocks:
        """Yield a chunk's logits and tokens; see ``paired_evaluation.scored_blocks``."""
        return scored_blocks(self._backend, self._parts[number], self.n_rows)

    def packed(self, number: int, dtype: np.dtype[np.void]) -> Packed:
        """Return a chunk's predictions as a reference pack has them; see ``packed_rows``."""
        rng = np.random.default_rng(number)
        rows = [pack_rows(logits, targets, dtype, rng) for logits, targets in self.blocks(number)]
        return np.concatenate(rows)


class PackedReference:
    """What a reference pack has of the reference."""

    def __init__(self, pack: ReferencePack, n_rows: int) -> None:
        self.n_rows = n_rows
        self._pack = pack

    def compare(self, number: int, candidate: Backend) -> TokenMetrics:
        rows, found, start = self._pack.rows(number), [], 0
        for logits, targets in scored_blocks(candidate, self._pack.parts[number], self.n_rows):
            stop = start + len(targets)
            found.append(packed_metrics(rows[start:stop], logits, targets))
            start = stop
        return TokenMetrics.joined(found)


class StoredReference:
    """The log-probabilities of all scored tokens in a file, 16 bits each.

    A row's values are quantized evenly between its smallest and its largest; only the most likely
    token has the largest, so it stays the most likely. step: the largest quantization step; a
    stored value is off by at most half of it.
    """

    def __init__(self, folder: Path, parts: Sequence[TokenIds], n_vocab: int, n_rows: int) -> None:
        """Create the file, which has no name, in ``folder``; ``close`` removes it.

        Raises CompareError if the disk is too full.
        """
        self._check_disk(folder, parts, n_vocab)
        self.n_rows = n_rows
        self.n_bytes = 0
        self.step = 0.0
        self._folder = folder
        self._file = tempfile.TemporaryFile(prefix="localgen-", dir=folder)  # noqa: SIM115
        self._parts = parts
        self._n_vocab = n_vocab
        # For each block of a chunk: first byte, next tokens, each row's smallest value and step.
        self._index: list[list[tuple[int, TokenIds, Logits, Logits]]] = []

    def close(self) -> None:
        """Remove the file."""
        self._file.close()

    @staticmethod
    def _check_disk(folder: Path, parts: Sequence[TokenIds], n_vocab: int) -> None:
        n_scored = sum(len(part) - 1 - len(part) // 2 for part in parts)
        n_bytes, free = 2 * n_vocab * n_scored, shutil.disk_usage(folder).free
        if n_bytes + _SPARE_BYTES > free:
            raise CompareError(
                f"the two models do not fit in memory together, and the reference's predictions "
                f"need {as_size(n_bytes)} in {folder}, where {as_size(free)} is free. {_INSTEAD}"
            )

    def take(self, blocks: Blocks) -> None:
        """Store the next chunk."""
        index = []
        for logits, targets in blocks:
            packed, low, step = pack(logits)
            index.append((self.n_bytes, targets.copy(), low, step))
            self._write(packed.tobytes())
            self.n_bytes += packed.nbytes
            self.step = max(self.step, float(step.max()))
        self._index.append(index)

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise CompareError(
                f"the reference's predictions cannot be stored in {self._folder}: "
                f"{error.strerror}. {_INSTEAD}"
            ) from error

    def compare(self, number: int, candidate: Backend) -> TokenMetrics:
        return compare_chunk(self.blocks(number), candidate, self._parts[number], self.n_rows)

    def blocks(self, number: int) -> Blocks:
        """Yield a chunk's logits, off by at most half a step and a constant per row, and tokens."""
        for first, targets, low, step in self._index[number]:
            self._file.seek(first)
            data = self._file.read(2 * self._n_vocab * len(targets))
            packed = np.frombuffer(data, np.uint16).reshape(len(targets), self._n_vocab)
            yield unpack(packed, low, step), targets


def pack(logits: Logits) -> tuple[npt.NDArray[np.uint16], Logits, Logits]:
    """Quantize logits (n, n_vocab) to 16 bits; return them, and each row's minimum and step (n, 1).

    A constant per row is lost, which softmax ignores.
    """
    tops = logits.argmax(axis=1)[:, None]
    shifted = logits - np.take_along_axis(logits, tops, axis=1)
    low = shifted.min(axis=1, keepdims=True)
    step = np.where(low < 0, -low / _MOST, 1).astype(np.float32)
    packed = np.minimum(np.rint((shifted - low) / step), _MOST - 1).astype(np.uint16)
    np.put_along_axis(packed, tops, np.uint16(_MOST), axis=1)
    return packed, low, step


def unpack(packed: npt.NDArray[np.uint16], low: Logits, step: Logits) -> Logits:
    """Return the logits given to ``pack``, up to rounding and a constant per row."""
    logits = packed.astype(np.float32)
    logits *= step
    logits += low
    return logits
