"""Refuses what compare() cannot use, by what files hold, before anything is measured."""

from __future__ import annotations

from pathlib import Path

from localgen._util.atomic_write import check_writable, holds_data
from localgen._util.home import expand_user
from localgen._util.json_text import has_json
from localgen._util.option_fields import FilePath
from localgen.compare.settings import Settings
from localgen.compare.speed import N_DECODE, N_PREFILL
from localgen.errors import CompareError
from localgen.gguf import gate
from localgen.gguf.imatrix_file import read_sums
from localgen.gguf.metadata import Hyperparameters
from localgen.quantization.calibration import default_text as default_calibration_text
from localgen.quantization.imatrix_result import text_hashes
from localgen.quantization.options import AUTO


def results_file(results: FilePath | None, *, may_exist: bool = False) -> Path | None:
    """Return the file of the results, which is checked before anything is measured.

    may_exist: whether results in it are kept, or discarded. Raises CompareError if they are not,
    and for a file of another kind, and OSError if the file cannot be written.
    """
    if results is None:
        return None
    path = expand_user(results)
    check_new(path, "resume=True keeps them, and overwrite=True starts over", may_exist=may_exist)
    check_writable(path)
    return path


def check_new(path: Path, otherwise: str, *, may_exist: bool) -> None:
    """Raise CompareError for a file that has something in it, unless these are results and may be
    replaced. otherwise: how they can be used."""
    if not holds_data(path):
        return
    if not has_json(path, {"schema", "levels"}):
        raise CompareError(
            f"{path} holds something else than results of a comparison, which would be lost. Write "
            f"to another file."
        )
    if not may_exist:
        raise CompareError(
            f"{path} exists, and its results would be lost: {otherwise}. Or write to another file."
        )


def check_depths(settings: Settings) -> None:
    """Raise ValueError for depths that the model was not trained for."""
    if not settings.depths:
        return
    metadata = gate.check_model(settings.source).metadata
    n_ctx_train = Hyperparameters(metadata).number("context_length")
    for depth in settings.depths:
        if (length := depth + N_PREFILL + N_DECODE) > n_ctx_train:
            raise ValueError(
                f"depths has {depth}, which is too deep: with {N_PREFILL} tokens of a prompt and "
                f"{N_DECODE} new ones it takes {length}, and the model was trained on {n_ctx_train}"
            )


def check_imatrix(imatrix: FilePath | None, text_sha256: str) -> None:
    """Refuse an evaluation on the text that the importance matrix is made from."""
    if imatrix is None:
        return
    if imatrix == AUTO:
        is_same = default_calibration_text().sha256 == text_sha256
    else:
        is_same = text_sha256 in text_hashes(read_sums(expand_user(imatrix)))
    if is_same:
        raise CompareError(
            "the importance matrix is made from the text that quality is measured on, so its "
            "levels would look better than they are. Use another text."
        )
