"""The result of making an importance matrix: its size, and warnings of data that it lacks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from localgen._util.atomic_write import check_writable, holds_data
from localgen._util.format import some_of
from localgen._util.home import expand_user
from localgen._util.warn import warn
from localgen.errors import ModelFileError, QuantizeError
from localgen.gguf.imatrix_file import Imatrix, read_sums
from localgen.gguf.reader import read_gguf
from localgen.quantization.calibration import sha256_of


@dataclass(frozen=True, slots=True)
class ImportanceMatrix:
    """What was written.

    n_chunks, n_ctx: how many chunks of how many tokens of the text it is made from. n_tensors: how
    many tensors it has. unused_experts: {tensor: number of its experts that no token was sent to}.
    zero_columns: {tensor: number of columns that were always 0}. missing: matrices of the model's
    layers that it lacks. seconds: spent computing.
    """

    path: Path
    n_chunks: int
    n_ctx: int
    n_tensors: int
    unused_experts: dict[str, int]
    zero_columns: dict[str, int]
    missing: tuple[str, ...]
    seconds: float


def target_of(
    output: str | os.PathLike[str], *, otherwise: str, resume: bool = False, overwrite: bool = False
) -> Path:
    """Return the path to write to.

    resume, overwrite: a matrix there is kept or may be lost. otherwise: how it could be used.
    Raises ValueError for a path that cannot hold a GGUF file, and for a model's, which would be
    lost, QuantizeError for a matrix that would be lost, and OSError.
    """
    if resume and overwrite:
        raise ValueError("resume=True and overwrite=True exclude each other: choose one")
    path = expand_user(output)
    if path.suffix.lower() != ".gguf":
        raise ValueError(
            f"output must be a .gguf file, got {path}: the older format of importance matrices is "
            f"only read"
        )
    check_writable(path)
    if _holds_another(path):
        raise ValueError(
            f"output {path} is a GGUF file that is not an importance matrix, and would be "
            f"replaced. Name another file."
        )
    if holds_data(path) and not resume and not overwrite:
        raise QuantizeError(
            f"{path} exists, and its importance matrix would be lost: {otherwise}. Or write to "
            f"another file."
        )
    return path


def _holds_another(path: Path) -> bool:
    """Return whether there is a valid GGUF file that is no importance matrix."""
    if not path.is_file():
        return False
    try:
        found = read_gguf(path)
    except ModelFileError:  # such as what a crash left of a matrix
        return False
    return found.metadata.get("general.type") != "imatrix"


def described(
    whole: Imatrix, path: Path, missing: tuple[str, ...], seconds: float
) -> ImportanceMatrix:
    """Return the description of a matrix that was written to ``path``."""
    sums = whole.sums
    return ImportanceMatrix(
        path=path,
        n_chunks=whole.n_chunks,
        n_ctx=whole.chunk_size,
        n_tensors=len(sums),
        unused_experts={name: each.n_unused for name, each in sums.items() if each.n_unused},
        zero_columns={
            name: each.n_zero_columns for name, each in sums.items() if each.n_zero_columns
        },
        missing=missing,
        seconds=seconds,
    )


def warn_of_gaps(done: ImportanceMatrix) -> None:
    """Warn of experts, columns and weights without data."""
    experts, columns, missing = done.unused_experts, done.zero_columns, done.missing
    longer = "Use a longer or more varied text."
    if experts:
        warn(
            f"{done.path} has no data for {sum(experts.values())} experts in "
            f"{some_of(list(experts), 'tensor')}: no token was sent to them. {longer}"
        )
    if columns:
        warn(
            f"{done.path} has columns without data in {some_of(list(columns), 'tensor')}: their "
            f"inputs were always 0. {longer}"
        )
    if missing:
        warn(
            f"{done.path} lacks {some_of(missing, 'weight')} of the model's layers, which nothing "
            f"was multiplied with"
        )


def text_hashes(found: Imatrix) -> tuple[str, ...]:
    hashes = found.origin.get("text_sha256", ())
    return hashes if isinstance(hashes, tuple) else (hashes,)


def is_made_from(path: Path, text: str) -> bool:
    """Return whether an importance matrix notes ``text`` as one of its own.

    Raises QuantizeError, ModelFileError or OSError.
    """
    return sha256_of(text) in text_hashes(read_sums(path))
