"""Turns the requested levels into checked files: levels that are made, and existing files."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from localgen import hub
from localgen._util.suggestions import did_you_mean
from localgen.compare.compute_device import ComputeDevice
from localgen.compare.level_result import LevelResult
from localgen.config import ModelConfig
from localgen.errors import CompareError
from localgen.gguf import gate
from localgen.gguf.gate import ModelFile
from localgen.llama.quantize import quantization_types
from localgen.quantization.levels import spelled_level
from localgen.quantization.options import QuantizeOptions
from localgen.quantization.quantize import write_levels
from localgen.quantization.runner import QuantizedFile

_HASHED_BYTES = 2**20


@dataclasses.dataclass(slots=True, eq=False)
class Level:
    """A requested level: an existing file, or one for ``make``; ``error`` says why it failed."""

    name: str
    path: Path | None
    made: QuantizedFile | None = None
    file: ModelFile | None = None
    error: str | None = None

    @classmethod
    def of(cls, level: str | os.PathLike[str]) -> Level:
        """Return the level for a type's name, a file or a name on the Hub, or raise ValueError."""
        if isinstance(level, str):
            name = spelled_level(level)
            if name in quantization_types():
                return cls(name, None)
            if "/" not in level and not level.endswith(".gguf") and not Path(level).exists():
                hint = did_you_mean(name, quantization_types())
                raise ValueError(
                    f"{level!r} is not a quantization level, a file or a name on the Hub{hint}"
                )
        return cls(Path(level).stem, hub.resolve(level))

    def is_same(self, other: Level) -> bool:
        """Return whether both are one type to make, or one file."""
        if self.path is None or other.path is None:
            return self.path is other.path and self.name == other.name
        return self.path.samefile(other.path)

    def make(
        self,
        source: Path,
        folder: Path,
        *,
        imatrix: str | os.PathLike[str] | None,
        n_threads: int,
    ) -> None:
        """Quantize ``source`` to this level. Raises LocalgenError."""
        options = QuantizeOptions(
            output=folder, imatrix=imatrix, allow_requantize=True, n_threads=n_threads
        )
        self.made = write_levels(source, [self.name], options)[0]
        self.path = self.made.path

    def check(self) -> None:
        """Check the level's file, which must exist. Raises LocalgenError."""
        if self.path is not None:
            self.file = gate.check_model(self.path)


def levels_of(levels: Sequence[str | os.PathLike[str]]) -> list[Level]:
    """Return the levels, each with a name of its own. Raises ValueError for one given twice.

    A file or a repository goes by its last part or, where another level has the same, by all of it.
    """
    found = [Level.of(level) for level in levels]
    for number, level in enumerate(found):
        if any(level.is_same(other) for other in found[:number]):
            raise ValueError(f"levels has {level.name} twice: name each once")
    names = Counter(level.name for level in found)
    for level, given in zip(found, levels, strict=True):
        if level.path is not None and names[level.name] > 1:
            level.name = str(given)
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class Variant:
    """A level with one type of KV cache on one device; each has a LevelResult."""

    level: Level
    kv_type: str
    device: ComputeDevice

    @property
    def label(self) -> str:
        return self._row().label

    @property
    def path(self) -> Path:
        if self.level.path is None:
            raise CompareError(f"{self.level.name} has no file")
        return self.level.path

    @property
    def file(self) -> ModelFile:
        if self.level.file is None:
            raise CompareError(f"{self.level.name} has no file")
        return self.level.file

    def config(self, *, n_ctx: int, n_threads: int, **options: Any) -> ModelConfig:
        """Return how to load it; options: further fields of ModelConfig."""
        return ModelConfig(
            n_ctx=n_ctx,
            n_threads=n_threads,
            kv_type=self.kv_type,
            device=self.device.name,
            n_gpu_layers=self.device.n_gpu_layers,
            **options,
        )

    def _row(self) -> LevelResult:
        return LevelResult(
            name=self.level.name,
            kv_type=self.kv_type,
            device=str(self.device),
            error=self.level.error,
        )

    def described(self) -> LevelResult:
        """Return what is known before anything is measured."""
        level, row = self.level, self._row()
        if level.file is None or level.path is None:
            return row
        tensors = [tensor for shard in level.file.shards for tensor in shard.tensors]
        n_bits = 8 * sum(tensor.n_bytes for tensor in tensors)
        return dataclasses.replace(
            row,
            file=level.path.name,
            sha256=sha256(level.path),
            file_bytes=sum(shard.size for shard in level.file.shards),
            bits_per_weight=n_bits / sum(tensor.n_values for tensor in tensors),
            n_fallback=level.made.n_fallback if level.made else None,
        )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a model's file, or of all shards of a split model."""
    digest = hashlib.sha256()
    for each in gate.shard_paths(path):
        with each.open("rb", buffering=0) as file:
            while block := file.read(_HASHED_BYTES):
                digest.update(block)
    return digest.hexdigest()
