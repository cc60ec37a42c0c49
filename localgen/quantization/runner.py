"""Runs llama.cpp's quantizer on one model: a dry run first, then files that are checked."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localgen._util.atomic_write import replace
from localgen._util.system import usable_cpus
from localgen._util.work_folder import work_folder
from localgen.errors import InvalidGGUFError, QuantizeError
from localgen.gguf import gate
from localgen.gguf.gate import ModelFile
from localgen.gguf.tensor_types import TENSOR_TYPES
from localgen.quantization.options import QuantizeOptions
from localgen.quantization.process import Progress, QuantizerProcess
from localgen.quantization.type_overrides import TYPES, TypeOverrides, Wish

_TYPES_BY_NAME = {kind.name: kind for kind in TENSOR_TYPES.values()}


@dataclass(frozen=True, slots=True)
class QuantizedFile:
    """What was written.

    path: the file, or the first shard. paths: all shards. n_bytes: the size of all.
    bits_per_weight: the mean over all tensors. types: {tensor type: number of tensors}. n_fallback:
    tensors that got a larger type than the level's, because their rows do not divide into its
    blocks. seconds: spent quantizing. replaced: whether a file of that name existed before.
    """

    path: Path
    level: str
    n_bytes: int
    bits_per_weight: float
    types: dict[str, int]
    n_fallback: int
    seconds: float
    replaced: bool
    paths: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The result of a dry run: each tensor's new type, and the bytes of all."""

    types: dict[str, str]
    n_bytes: int
    n_fallback: int


class Runner:
    """Writes levels of one model, each time with the same options.

    imatrix: the file of the importance matrix, which ``options`` may only ask for.
    """

    def __init__(
        self,
        process: QuantizerProcess,
        file: ModelFile,
        options: QuantizeOptions,
        overrides: TypeOverrides,
        imatrix: Path | None,
    ) -> None:
        self._process = process
        self._overrides = overrides
        self._file = file
        self._imatrix = imatrix
        n_threads = options.n_threads
        self._task = {
            "source": str(file.path),
            "pure": options.pure,
            "tensor_types": overrides.numbers(),
            "token_embedding_type": _number(overrides.token_embedding),
            "output_tensor_type": _number(overrides.output),
            "keep_split": options.keep_split,
            "allow_requantize": options.allow_requantize,
            "imatrix": None if imatrix is None else str(imatrix),
            "n_threads": usable_cpus() if n_threads is None else n_threads,
        }

    def plan(self, level: str, ftype: int) -> Plan:
        """Do a dry run. Raises QuantizeError if the real run would fail."""
        found = self.run(level, None, ftype=ftype, target=os.devnull, dry_run=True)
        if found["needs_imatrix"] and self._imatrix is None:
            raise QuantizeError(
                f"{level} needs an importance matrix: without one the file would be unusable. Make "
                f"one with `localgen imatrix` from an F16 file, and pass it as imatrix=FILE, or "
                f"pass imatrix='auto'."
            )
        sizes = {t.name: t.n_values for shard in self._file.shards for t in shard.tensors}
        types = {name: found["types"].get(name, "") for name in sizes}
        unknown = [name for name, kind in types.items() if kind not in _TYPES_BY_NAME]
        if unknown:
            raise QuantizeError(f"llama.cpp did not report the type of {unknown[0]} in {level}")
        self._overrides.check_plan(level, types)
        n_bytes = sum(stored_bytes(n_values, types[name]) for name, n_values in sizes.items())
        return Plan(types, n_bytes + self._file.shards[0].data_offset, found["n_fallback"])

    def write(
        self, level: str, ftype: int, targets: list[Path], plan: Plan, progress: Progress | None
    ) -> QuantizedFile:
        """Write one file, or all shards of one; check it, and move it to its name."""
        started = time.perf_counter()
        with _partial(targets) as (base, partial):
            self.run(level, progress, ftype=ftype, target=str(base), dry_run=False)
            seconds = time.perf_counter() - started
            written = self._check_written(level, partial[0], plan)
            for path in partial:
                with path.open("r+b") as file:  # Windows syncs only what may be written
                    os.fsync(file.fileno())
            replaced = any(target.exists() for target in targets)
            for path, target in zip(reversed(partial), reversed(targets), strict=True):
                replace(path, target)  # the first shard last: it makes a model of the others
        tensors = [tensor for shard in written.shards for tensor in shard.tensors]
        n_bits = 8 * sum(tensor.n_bytes for tensor in tensors)
        return QuantizedFile(
            path=targets[0],
            level=level,
            n_bytes=sum(shard.size for shard in written.shards),
            bits_per_weight=n_bits / sum(tensor.n_values for tensor in tensors),
            types=dict(Counter(tensor.type.name for tensor in tensors).most_common()),
            n_fallback=plan.n_fallback,
            seconds=seconds,
            replaced=replaced,
            paths=tuple(targets),
        )

    def _check_written(self, level: str, partial: Path, plan: Plan) -> ModelFile:
        try:
            written = gate.check_model(partial)
        except InvalidGGUFError as error:
            raise QuantizeError(f"llama.cpp wrote a corrupt {level} file: {error}") from error
        types = {
            tensor.name: tensor.type.name for shard in written.shards for tensor in shard.tensors
        }
        if types != plan.types:
            wrong = sorted(set(types.items()) ^ set(plan.types.items()))
            raise QuantizeError(f"the {level} file differs from the dry run: {wrong[:3]}")
        return written

    def run(
        self, level: str, progress: Progress | None, *, ftype: int, target: str, dry_run: bool
    ) -> dict[str, Any]:
        """Run the quantizer, and return its last event; the file is not checked."""
        from localgen.llama.quantize import Task  # noqa: PLC0415  # loads llama.cpp

        task = Task(**self._task, ftype=ftype, target=target, dry_run=dry_run)  # type: ignore[arg-type]
        return self._process.run(level, task.as_json(), progress)


def stored_bytes(n_values: int, kind: str) -> int:
    """Return the bytes of a tensor whose rows divide into blocks of the type."""
    return n_values // _TYPES_BY_NAME[kind].block * _TYPES_BY_NAME[kind].n_bytes


def _number(wish: Wish | None) -> int | None:
    return None if wish is None else TYPES[wish.type][0]


@contextlib.contextmanager
def _partial(targets: list[Path]) -> Iterator[tuple[Path, list[Path]]]:
    """Yield what the quantizer writes to, and the files that come of it, in a folder beside
    ``targets``.

    They are one, or shards whose names begin with it. Files left there are removed.
    """
    stem = gate.shard_stem(targets[0]) if len(targets) > 1 else targets[0].name
    with contextlib.ExitStack() as stack:
        folder = enter_work_folder(stack, targets[0].parent)
        yield folder / stem, [folder / target.name for target in targets]


def enter_work_folder(stack: contextlib.ExitStack, parent: Path) -> Path:
    """Return a folder in another one, until the stack closes. Raises QuantizeError."""
    try:
        return stack.enter_context(work_folder(parent))
    except OSError as error:
        raise QuantizeError(f"cannot write to the folder {parent}: {error.strerror}") from error
