"""Refuses options of compare() that cannot be combined, before anything is measured."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from localgen._util import system
from localgen._util.atomic_write import holds_data
from localgen._util.checks import check_bool, check_int
from localgen._util.home import expand_user
from localgen.compare.pack_making import check_target
from localgen.compare.settings import Settings
from localgen.compare.speed import N_DECODE, N_PREFILL
from localgen.errors import CompareError
from localgen.gguf import gate
from localgen.gguf.imatrix_file import read_sums
from localgen.gguf.metadata import Hyperparameters
from localgen.quantization.calibration import default_text as default_calibration_text
from localgen.quantization.imatrix_result import text_hashes
from localgen.quantization.options import AUTO


def check_packs(
    reference_pack: str | os.PathLike[str] | None,
    save_reference_pack: str | os.PathLike[str] | None,
    *,
    quality: bool,
    tasks: Sequence[str | os.PathLike[str]],
    chats: str | os.PathLike[str] | None,
) -> None:
    """Refuse reference packs beside what they cannot be combined with."""
    given = [
        name
        for name, value in (
            ("reference_pack", reference_pack),
            ("save_reference_pack", save_reference_pack),
        )
        if value is not None
    ]
    if given and not quality:
        raise ValueError(f"{given[0]} needs quality=True: a pack is for measuring quality")
    if len(given) > 1:
        raise ValueError(
            "reference_pack and save_reference_pack exclude each other: a pack is saved from the "
            "reference itself"
        )
    if reference_pack is not None and (tasks or chats is not None):
        raise ValueError(
            f"reference_pack cannot be used with {'tasks' if tasks else 'chats'}: a pack does not "
            f"have the reference's answers. Leave out one of them."
        )
    if save_reference_pack is not None:
        check_target(expand_user(save_reference_pack))


def results_file(
    results: str | os.PathLike[str] | None, *, resume: bool = False, overwrite: bool = False
) -> Path | None:
    """Return the file of the results, whose folder is made before anything is measured.

    Raises CompareError if that is not possible, or for a file with results that are neither to be
    kept nor discarded.
    """
    given = [name for name, value in (("resume", resume), ("overwrite", overwrite)) if value]
    if results is None:
        if given:
            raise ValueError(f"{given[0]}=True needs results=, the file to {given[0]}")
        return None
    if len(given) > 1:
        raise ValueError("resume=True and overwrite=True exclude each other: choose one")
    path = expand_user(results)
    if not given:
        check_new(path, "resume=True keeps them, and overwrite=True starts over")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompareError(f"{path} cannot be written: {path.parent}: {error.strerror}") from error
    return path


def check_new(path: Path, otherwise: str) -> None:
    """Raise CompareError for a file that has something in it. otherwise: how it can be used."""
    if holds_data(path):
        raise CompareError(
            f"{path} exists, and its results would be lost: {otherwise}. Or write to another file."
        )


def check_depths(settings: Settings, *, speed: bool) -> None:
    """Raise ValueError for depths that the model was not trained for."""
    if settings.depths and not speed:
        raise ValueError("depths needs speed=True: it is the speed that is measured there")
    if not settings.depths:
        return
    metadata = gate.check_model(settings.source).metadata
    n_ctx_train = Hyperparameters(metadata).number("context_length")
    for depth in settings.depths:
        check_int("each of depths", depth, 1)
        if settings.depths.count(depth) > 1:
            raise ValueError(f"depths has {depth} twice: name each once")
        if (length := depth + N_PREFILL + N_DECODE) > n_ctx_train:
            raise ValueError(
                f"depths has {depth}, which is too deep: with {N_PREFILL} tokens of a prompt and "
                f"{N_DECODE} new ones it takes {length}, and the model was trained on {n_ctx_train}"
            )


def energy_counters(*, energy: bool, speed: bool) -> tuple[str, ...]:
    """Return the names of the counters of energy; () if it is not measured."""
    if not check_bool("energy", energy):
        return ()
    if not speed:
        raise ValueError("energy=True needs speed=True: energy is measured with the speed")
    return system.energy_meter().names


def check_imatrix(imatrix: str | os.PathLike[str] | None, text_sha256: str) -> None:
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
