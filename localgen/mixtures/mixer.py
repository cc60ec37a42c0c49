"""Writes mixtures of a model's types with llama.cpp's quantizer, and knows their sizes."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Container, Sequence
from pathlib import Path

from localgen.gguf.gate import ModelFile
from localgen.llama.quantize import quantization_types
from localgen.mixtures.groups import Group, aligned, groups_of, ladder_of
from localgen.mixtures.losses import Mixture
from localgen.quantization.levels import spelled_level
from localgen.quantization.options import QuantizeOptions
from localgen.quantization.process import QuantizerProcess
from localgen.quantization.runner import Plan, QuantizedFile, Runner
from localgen.quantization.type_overrides import TypeOverrides, Wish

# What the quantizer adds to the source's header, at most: its version and the file's level.
_SPARE_BYTES = 256
# Types that llama.cpp's quantizer refuses without data.
_NEED_DATA = ("IQ3_XXS", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_S", "IQ1_M")
# The level whose rules say which tensors are quantized at all.
_ANY_LEVEL = "Q8_0"
_LEVELS = (
    "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K",
)  # fmt: skip
_LEVELS_WITH_IMATRIX = ("IQ4_XS", "IQ3_M", "IQ3_S", "IQ3_XXS", "IQ2_M", "IQ2_S", "IQ2_XXS")


class Mixer:
    """Writes files of one model: mixtures, whose groups are in ``groups``, and levels.

    with_data: the tensors that the importance matrix has. could_use_imatrix: whether one with more
    tensors would allow smaller types.
    """

    def __init__(
        self,
        process: QuantizerProcess,
        file: ModelFile,
        options: QuantizeOptions,
        imatrix: Path | None,
        with_data: Container[str],
    ) -> None:
        self._with_data = with_data
        self._process = process
        self._file = file
        self._options = options
        self._imatrix = imatrix
        tensors = [tensor for shard in file.shards for tensor in shard.tensors]
        plan = self._level(dataclasses.replace(options, pure=True)).plan(
            _ANY_LEVEL, _ftype(_ANY_LEVEL)
        )
        quantized = [tensor for tensor in tensors if plan.types[tensor.name] == _ANY_LEVEL]
        self.groups = groups_of(quantized, with_data)
        grouped = {name for group in self.groups for name in group.sizes}
        others = sum(aligned(tensor.n_bytes) for tensor in tensors if tensor.name not in grouped)
        header = sum(shard.data_offset for shard in file.shards)
        self.n_fixed = others + header + _SPARE_BYTES * len(file.shards)
        self.could_use_imatrix = any(
            ladder_of(tensor, has_data=True) != ladder_of(tensor, has_data=tensor.name in with_data)
            for tensor in quantized
        )

    def n_bytes(self, mixture: Mixture) -> int:
        """Return the size of a mixture's file, or a little more."""
        parts = (group.n_bytes(kind) for group, kind in zip(self.groups, mixture, strict=True))
        return self.n_fixed + sum(parts)

    def level_below(self, n_bytes: int) -> tuple[str, Plan] | None:
        """Return the largest level of llama.cpp's with at most this size; None without any."""
        names = [*_LEVELS, *(_LEVELS_WITH_IMATRIX if self._imatrix is not None else ())]
        runner = self._level(self._options)
        plans = [(name, runner.plan(name, _ftype(name))) for name in names]
        return max(
            (each for each in plans if each[1].n_bytes <= n_bytes and self._has_data_for(each[1])),
            key=lambda each: each[1].n_bytes,
            default=None,
        )

    def _has_data_for(self, plan: Plan) -> bool:
        return all(
            name in self._with_data for name, kind in plan.types.items() if kind in _NEED_DATA
        )

    def try_level(self, name: str, path: Path) -> None:
        """Write a level for a measurement."""
        options = dataclasses.replace(self._options, keep_split=False)
        run = self._level(options).run
        run(name, None, ftype=_ftype(name), target=os.fspath(path), dry_run=False)

    def try_mixture(self, mixture: Mixture, path: Path) -> None:
        """Write a mixture for a measurement."""
        options = dataclasses.replace(self._options, keep_split=False)
        run = self._mixture(options, mixture).run
        ftype = self._ftype_of(mixture)
        run("a mixture", None, ftype=ftype, target=os.fspath(path), dry_run=False)

    def write(self, label: str, mixture: Mixture, targets: list[Path]) -> QuantizedFile:
        """Write a mixture to keep, checked."""
        runner, ftype = self._mixture(self._options, mixture), self._ftype_of(mixture)
        return runner.write(label, ftype, targets, runner.plan(label, ftype), None)

    def _level(self, options: QuantizeOptions) -> Runner:
        return Runner(self._process, self._file, options, TypeOverrides(), self._imatrix)

    def _mixture(self, options: QuantizeOptions, mixture: Mixture) -> Runner:
        types = {
            name: kind
            for group, chosen in zip(self.groups, mixture, strict=True)
            for name, kind in group.types(chosen).items()
        }
        wishes = [
            Wish("the mixture", kind, tuple(name for name in types if types[name] == kind))
            for kind in sorted(set(types.values()))
        ]
        overrides = TypeOverrides(tuple(wishes))
        return Runner(self._process, self._file, options, overrides, self._imatrix)

    def _ftype_of(self, mixture: Mixture) -> int:
        """Return the level that the file states: that of the type with the most values."""
        return _ftype(_named_after(self.groups, mixture))


def _named_after(groups: Sequence[Group], mixture: Mixture) -> str:
    values: Counter[str] = Counter()
    for group, kind in zip(groups, mixture, strict=True):
        if kind is not None:
            values[kind] += sum(group.sizes.values())
    name = spelled_level(values.most_common(1)[0][0]) if values else _ANY_LEVEL
    return name if name in quantization_types() else _ANY_LEVEL


def _ftype(level: str) -> int:
    return quantization_types()[level]
