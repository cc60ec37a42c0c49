"""Writes quantized model files completely or not at all, checked before and after."""

from __future__ import annotations

import contextlib
import difflib
import math
import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from localgen import hub
from localgen._util.atomic_write import replace
from localgen._util.checks import check_int
from localgen._util.format import either, some_of
from localgen._util.home import expand_user
from localgen._util.system import usable_cpus
from localgen._util.warn import warn
from localgen.errors import InvalidGGUFError, QuantizeError
from localgen.gguf import gate
from localgen.gguf.gate import ModelFile
from localgen.gguf.tensor_types import TENSOR_TYPES
from localgen.hub.levels import level_of
from localgen.quantization.process import Progress, QuantizerProcess
from localgen.quantization.type_overrides import TYPES, TypeOverrides, Wish, type_overrides

# Other common names.
_SPELLINGS = {
    "Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "FP16": "F16", "FP32": "F32",
    "MXFP4": "MXFP4_MOE",
}  # fmt: skip
_NOT_QUANTIZED = ("F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64")
_SPARE_BYTES = 2**24
# As the file of an importance matrix: make one.
AUTO = "auto"
_TYPES_BY_NAME = {kind.name: kind for kind in TENSOR_TYPES.values()}


@dataclass(frozen=True, slots=True)
class QuantizedFile:
    """What was written.

    n_bytes: the file's size. bits_per_weight: the mean over all tensors. types: {tensor type:
    number of tensors}. n_fallback: tensors that got a larger type than the level's, because their
    rows do not divide into its blocks. seconds: spent quantizing. replaced: whether a file of that
    name existed before.
    """

    path: Path
    level: str
    n_bytes: int
    bits_per_weight: float
    types: dict[str, int]
    n_fallback: int
    seconds: float
    replaced: bool


@dataclass(frozen=True, slots=True)
class _Plan:
    """The result of a dry run: each tensor's new type, and the bytes of all."""

    types: dict[str, str]
    n_bytes: int
    n_fallback: int


@overload
def quantize(
    source: str | os.PathLike[str],
    levels: str,
    *,
    output: str | os.PathLike[str] = ...,
    imatrix: str | os.PathLike[str] | None = ...,
    pure: bool = ...,
    tensor_types: Mapping[str, str] | None = ...,
    token_embedding_type: str | None = ...,
    output_tensor_type: str | None = ...,
    allow_requantize: bool = ...,
    n_threads: int | None = ...,
    progress: Progress | None = ...,
) -> QuantizedFile: ...


@overload
def quantize(
    source: str | os.PathLike[str],
    levels: list[str] | tuple[str, ...],
    *,
    output: str | os.PathLike[str] = ...,
    imatrix: str | os.PathLike[str] | None = ...,
    pure: bool = ...,
    tensor_types: Mapping[str, str] | None = ...,
    token_embedding_type: str | None = ...,
    output_tensor_type: str | None = ...,
    allow_requantize: bool = ...,
    n_threads: int | None = ...,
    progress: Progress | None = ...,
) -> list[QuantizedFile]: ...


def quantize(
    source: str | os.PathLike[str],
    levels: str | list[str] | tuple[str, ...],
    *,
    output: str | os.PathLike[str] = ".",
    imatrix: str | os.PathLike[str] | None = None,
    pure: bool = False,
    tensor_types: Mapping[str, str] | None = None,
    token_embedding_type: str | None = None,
    output_tensor_type: str | None = None,
    allow_requantize: bool = False,
    n_threads: int | None = None,
    progress: Progress | None = None,
) -> QuantizedFile | list[QuantizedFile]:
    """Write a model at one or several quantization levels, as llama-quantize does.

    source: as in ``LocalModel.from_pretrained``. levels: a name such as "Q4_K_M" returns one
    result, a list of names a list. output: the folder for NAME-LEVEL.gguf, created if missing; an
    existing file is replaced once the new one is complete. imatrix: the file of an importance
    matrix, which the smallest levels need; "auto" makes NAME.imatrix.gguf in ``output`` first, on
    the default text of ``imatrix()``, or resumes it. pure: give every tensor the level's own type.
    tensor_types: {regular expression: type}, such as {"ffn_down": "Q6_K"}, for tensors in whose
    names it is found; the first that is decides. token_embedding_type, output_tensor_type: types of
    these two. allow_requantize: accept a source that is already quantized, whose loss remains.
    n_threads: defaults to all CPUs. progress: called with (tensor's number, number of tensors,
    tensor's name), and before with chunks of the text in their place.

    Raises ValueError for a level, a type or n_threads, ModelFileError for the source, and
    QuantizeError.
    """
    numbers = _ftypes([levels] if isinstance(levels, str) else list(levels))
    if n_threads is not None:
        check_int("n_threads", n_threads, 1, 512)
    path = hub.resolve(source)
    file = gate.check_model(path)
    folder = expand_user(output)
    _check_source(file, numbers, allow_requantize=allow_requantize)
    overrides = type_overrides(file, tensor_types, token_embedding_type, output_tensor_type)
    for name in numbers:
        overrides.check_level(name, is_quantized=name not in _NOT_QUANTIZED)
    targets = {name: folder / f"{_stem(path)}-{name}.gguf" for name in numbers}
    for target in targets.values():
        _check_target(target, file)
    if imatrix == AUTO:
        imatrix = auto_imatrix(path, folder, n_threads=n_threads, progress=progress)
    with QuantizerProcess() as process:
        run = _Runner(process, file, imatrix, pure, overrides, allow_requantize, n_threads)
        plans = {name: run.plan(name, number) for name, number in numbers.items()}
        _make_folder(folder)
        _check_disk(folder, sum(plan.n_bytes for plan in plans.values()))
        done = [
            run.write(name, numbers[name], targets[name], plans[name], progress) for name in numbers
        ]
    return done[0] if isinstance(levels, str) else done


def auto_imatrix(
    source: Path, folder: Path, *, n_threads: int | None, progress: Progress | None
) -> Path:
    """Return the file of an importance matrix in ``folder``, made or resumed on the default text.

    progress: called with (chunk's number, number of chunks, a word). Raises what ``imatrix`` does.
    """
    from localgen.quantization.imatrix import imatrix  # noqa: PLC0415  # loads llama.cpp

    def tell(n_done: int, n_chunks: int, what: str) -> None:
        if progress is not None:
            progress(min(n_done + 1, n_chunks), n_chunks, what)

    _make_folder(folder)
    path = folder / f"{_stem(source)}.imatrix.gguf"
    return imatrix(source, output=path, resume=True, n_threads=n_threads, progress=tell).path


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise QuantizeError(f"cannot create the folder {folder}: {error.strerror}") from error


def spelled_level(level: str) -> str:
    """Return llama.cpp's name of a level: Q4_K_M for "q4_k"."""
    name = level.strip().upper()
    return _SPELLINGS.get(name, name)


def _ftypes(levels: list[str]) -> dict[str, int]:
    """Return {level: llama.cpp's number}; raise ValueError for no levels or a repeated one."""
    if not levels:
        raise ValueError("levels is empty: name at least one, such as 'Q4_K_M'")
    numbers: dict[str, int] = {}
    for level in levels:
        name = spelled_level(level)
        if name in numbers:
            raise ValueError(f"levels contains {name} twice ({', '.join(levels)}): name each once")
        numbers[name] = _ftype(name)
    return numbers


def _ftype(level: str) -> int:
    from localgen.llama.quantize import quantization_types  # noqa: PLC0415  # loads llama.cpp

    known = quantization_types()
    if level not in known:
        near = difflib.get_close_matches(level, known, n=3)
        hint = f"; did you mean {either(near)}?" if near else "."
        raise ValueError(
            f"unknown quantization level {level!r}{hint} llama.cpp writes {', '.join(known)}"
        )
    return known[level]


def _stem(path: Path) -> str:
    """Return the source's name without its level: "model" for model.Q4_1.gguf."""
    stem = gate.shard_stem(path)
    level = level_of(f"{stem}.gguf")
    if level and stem.upper().endswith(level) and len(stem) > len(level):
        return stem[: -len(level)].rstrip("-._")
    return stem


def _check_source(file: ModelFile, levels: dict[str, int], *, allow_requantize: bool) -> None:
    """Refuse a source that is already quantized: its loss would add to the new one."""
    quantized = Counter(
        tensor.type.name
        for shard in file.shards
        for tensor in shard.tensors
        if tensor.type.name not in _NOT_QUANTIZED
    )
    if quantized and not allow_requantize:
        kinds = ", ".join(f"{count} of {kind}" for kind, count in quantized.most_common())
        raise QuantizeError(
            f"{file.path} is already quantized ({kinds}), and its loss would add to that of "
            f"{', '.join(levels)}. Quantize from an F16, BF16 or F32 file, or pass "
            f"allow_requantize=True."
        )


def _check_target(target: Path, file: ModelFile) -> None:
    if target.is_dir():
        raise QuantizeError(f"{target} is a folder")
    if target.exists() and any(target.samefile(path) for path in file.paths):
        raise QuantizeError(f"{target} is the source itself. Write to another folder.")


def _check_disk(folder: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if n_bytes + _SPARE_BYTES > free:
        raise QuantizeError(
            f"the files need {n_bytes / 1e6:,.0f} MB, and {folder} has {free / 1e6:,.0f} MB free"
        )


class _Runner:
    """Runs the quantizer on one source, each time with the same options."""

    def __init__(
        self,
        process: QuantizerProcess,
        file: ModelFile,
        imatrix: str | os.PathLike[str] | None,
        pure: bool,
        overrides: TypeOverrides,
        allow_requantize: bool,
        n_threads: int | None,
    ) -> None:
        self._process = process
        self._overrides = overrides
        self._file = file
        self._options = {
            "source": str(file.path),
            "pure": pure,
            "tensor_types": overrides.numbers(),
            "token_embedding_type": _number(overrides.token_embedding),
            "output_tensor_type": _number(overrides.output),
            "allow_requantize": allow_requantize,
            "imatrix": os.fspath(imatrix) if imatrix is not None else None,
            "n_threads": usable_cpus() if n_threads is None else n_threads,
        }
        if imatrix is not None:
            self._check_imatrix(Path(imatrix))

    def _check_imatrix(self, path: Path) -> None:
        """Raise what is wrong with an importance matrix before anything runs; warn of its gaps."""
        from localgen.gguf.imatrix_file import find_gaps, read_imatrix  # noqa: PLC0415

        shapes = {t.name: t.shape for shard in self._file.shards for t in shard.tensors}
        matching = {name: data for name, data in read_imatrix(path).items() if name in shapes}
        if not matching:
            warn(
                f"{path} has none of the tensors of {self._file.path.name}, so it changes nothing: "
                f"it belongs to another model"
            )
        for name, data in matching.items():
            n_columns = math.prod(shapes[name][:1] + shapes[name][2:])
            if data.size != n_columns and name != "token_embd.weight":  # which llama.cpp ignores
                raise QuantizeError(
                    f"{path} belongs to another model: it has {data.size} values for {name}, which "
                    f"has {n_columns} columns in {self._file.path.name}"
                )
        gaps = find_gaps(path)
        if whole := [name for name in gaps.whole if name in matching]:
            tensors = some_of(whole, "tensor")
            warn(f"{path} has no data for {tensors}: all of their columns count the same")
        if partial := [name for name in gaps.partial if name in matching]:
            tensors = some_of(partial, "tensor")
            warn(
                f"{path} has no data for some columns of {tensors}: they count like the average "
                f"column"
            )

    def plan(self, level: str, ftype: int) -> _Plan:
        """Do a dry run. Raises QuantizeError if the real run would fail."""
        found = self._run(level, None, ftype=ftype, target=os.devnull, dry_run=True)
        if found["needs_imatrix"] and not self._options["imatrix"]:
            raise QuantizeError(
                f"{level} needs an importance matrix: without one the file would be unusable. Make "
                f"one with `localgen imatrix` from an F16 file, and pass it as imatrix=FILE, or "
                f"pass imatrix='auto'."
            )
        types = {name: found["types"].get(name, "") for name in self._shapes()}
        unknown = [name for name, kind in types.items() if kind not in _TYPES_BY_NAME]
        if unknown:
            raise QuantizeError(f"llama.cpp did not report the type of {unknown[0]} in {level}")
        self._overrides.check_plan(level, types)
        n_bytes = sum(
            n_values // _TYPES_BY_NAME[types[name]].block * _TYPES_BY_NAME[types[name]].n_bytes
            for name, n_values in self._shapes().items()
        )
        return _Plan(types, n_bytes + self._file.shards[0].data_offset, found["n_fallback"])

    def _shapes(self) -> dict[str, int]:
        return {t.name: t.n_values for shard in self._file.shards for t in shard.tensors}

    def write(
        self, level: str, ftype: int, target: Path, plan: _Plan, progress: Progress | None
    ) -> QuantizedFile:
        """Write one file, check it, and move it to its name."""
        started = time.perf_counter()
        with _partial(target) as partial:
            self._run(level, progress, ftype=ftype, target=str(partial), dry_run=False)
            seconds = time.perf_counter() - started
            written = self._check_written(level, partial, plan)
            with partial.open("r+b") as file:  # Windows syncs only what may be written
                os.fsync(file.fileno())
            replaced = target.exists()
            replace(partial, target)
        tensors = written.shards[0].tensors
        n_bits = 8 * sum(tensor.n_bytes for tensor in tensors)
        return QuantizedFile(
            path=target,
            level=level,
            n_bytes=written.shards[0].size,
            bits_per_weight=n_bits / sum(tensor.n_values for tensor in tensors),
            types=dict(Counter(tensor.type.name for tensor in tensors).most_common()),
            n_fallback=plan.n_fallback,
            seconds=seconds,
            replaced=replaced,
        )

    def _check_written(self, level: str, partial: Path, plan: _Plan) -> ModelFile:
        try:
            written = gate.check_model(partial)
        except InvalidGGUFError as error:
            raise QuantizeError(f"llama.cpp wrote a corrupt {level} file: {error}") from error
        types = {tensor.name: tensor.type.name for tensor in written.shards[0].tensors}
        if types != plan.types:
            wrong = sorted(set(types.items()) ^ set(plan.types.items()))
            raise QuantizeError(f"the {level} file differs from the dry run: {wrong[:3]}")
        return written

    def _run(
        self, level: str, progress: Progress | None, *, ftype: int, target: str, dry_run: bool
    ) -> dict[str, Any]:
        from localgen.llama.quantize import Task  # noqa: PLC0415  # loads llama.cpp

        task = Task(**self._options, ftype=ftype, target=target, dry_run=dry_run)  # type: ignore[arg-type]
        return self._process.run(level, task.as_json(), progress)


def _number(wish: Wish | None) -> int | None:
    return None if wish is None else TYPES[wish.type][0]


@contextlib.contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``target``; a file left there is removed."""
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)
