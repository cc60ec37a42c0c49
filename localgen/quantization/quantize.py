"""Writes quantized model files completely or not at all, checked before and after."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from localgen import hub
from localgen._util.atomic_write import check_folder, make_folder
from localgen._util.home import expand_user
from localgen._util.suggestions import check_file_or_name
from localgen.errors import QuantizeError
from localgen.gguf import gate
from localgen.gguf.gate import ModelFile
from localgen.quantization.imatrix_check import check_imatrix
from localgen.quantization.levels import NOT_QUANTIZED, ftypes_of, stem_of
from localgen.quantization.options import AUTO, QuantizeOptions
from localgen.quantization.process import Progress, QuantizerProcess
from localgen.quantization.runner import QuantizedFile, Runner
from localgen.quantization.type_overrides import type_overrides

_SPARE_BYTES = 2**24


def write_levels(
    source: str | os.PathLike[str],
    levels: Sequence[str],
    options: QuantizeOptions,
    progress: Progress | None = None,
) -> list[QuantizedFile]:
    """Write a model at some levels; ``localgen.quantize`` has the arguments and errors."""
    numbers = ftypes_of(levels)
    path = hub.resolve(source)
    file = gate.check_model(path)
    folder = expand_user(options.output)
    check_source(file, options, ", ".join(numbers))
    overrides = type_overrides(
        file, options.tensor_types, options.token_embedding_type, options.output_tensor_type
    )
    for name in numbers:
        overrides.check_level(name, is_quantized=name not in NOT_QUANTIZED)
    targets = {name: target_paths(file, folder, name, options) for name in numbers}
    check_folder(folder)
    imatrix = imatrix_file(path, folder, options, progress)
    if imatrix is not None:
        check_imatrix(imatrix, file)
    with QuantizerProcess() as process:
        run = Runner(process, file, options, overrides, imatrix)
        plans = {name: run.plan(name, number) for name, number in numbers.items()}
        make_folder(folder)
        check_disk(folder, sum(plan.n_bytes for plan in plans.values()))
        return [
            run.write(name, numbers[name], targets[name], plans[name], progress) for name in numbers
        ]


def imatrix_file(
    source: Path, folder: Path, options: QuantizeOptions, progress: Progress | None
) -> Path | None:
    """Return the file of the importance matrix, made first if ``options`` ask for that."""
    if options.imatrix is None:
        return None
    check_file_or_name(options.imatrix, [AUTO])
    if options.imatrix == AUTO:
        return auto_imatrix(source, folder, n_threads=options.n_threads, progress=progress)
    return expand_user(options.imatrix)


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

    path = folder / f"{stem_of(source)}.imatrix.gguf"
    return imatrix(source, output=path, resume=True, n_threads=n_threads, progress=tell).path


def check_source(file: ModelFile, options: QuantizeOptions, what: str) -> None:
    """Refuse a source that is already quantized, whose loss would add to that of ``what``."""
    quantized = Counter(
        tensor.type.name
        for shard in file.shards
        for tensor in shard.tensors
        if tensor.type.name not in NOT_QUANTIZED
    )
    if quantized and not options.allow_requantize:
        kinds = ", ".join(f"{count} of {kind}" for kind, count in quantized.most_common())
        raise QuantizeError(
            f"{file.path} is already quantized ({kinds}), and its loss would add to that of "
            f"{what}. Quantize from an F16, BF16 or F32 file, or pass allow_requantize=True."
        )
    if options.keep_split and len(file.shards) == 1:
        raise QuantizeError(
            f"keep_split=True has no effect: {file.path.name} is one file, not split into shards. "
            f"Leave it out."
        )


def target_paths(file: ModelFile, folder: Path, label: str, options: QuantizeOptions) -> list[Path]:
    """Return the files of NAME-LABEL to write. Raises QuantizeError for a bad place."""
    stem = f"{stem_of(file.path)}-{label}"
    n = len(file.shards)
    names = [f"{stem}-{i:05}-of-{n:05}.gguf" for i in range(1, n + 1)]
    targets = [folder / name for name in (names if options.keep_split else [f"{stem}.gguf"])]
    for target in targets:
        if target.is_dir():
            raise QuantizeError(f"{target} is a folder")
        if target.exists() and any(target.samefile(path) for path in file.paths):
            raise QuantizeError(f"{target} is the source itself. Write to another folder.")
    return targets


def check_disk(folder: Path, n_bytes: int) -> None:
    """Raise QuantizeError unless ``n_bytes`` fit in ``folder``."""
    free = shutil.disk_usage(folder).free
    if n_bytes + _SPARE_BYTES > free:
        raise QuantizeError(
            f"the files need {n_bytes / 1e6:,.0f} MB, and {folder} has {free / 1e6:,.0f} MB free"
        )
