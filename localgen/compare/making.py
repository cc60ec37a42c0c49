"""Makes the files of levels, checks them, and says which can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from localgen.compare.levels import Level, Variant
from localgen.compare.preparation import Preparation
from localgen.compare.settings import Settings
from localgen.errors import CompareError, LocalgenError
from localgen.gguf import gate
from localgen.quantization.options import AUTO
from localgen.quantization.quantize import auto_imatrix


def variants_of(settings: Settings, levels: Sequence[Level]) -> list[Variant]:
    """Return each level with each type of KV cache on each device."""
    return [
        Variant(level, kv_type, device)
        for level in levels
        for kv_type in settings.kv_types
        for device in settings.devices
    ]


def make_levels(prepared: Preparation, folder: Path) -> None:
    """Make and check each level's file; a level that fails gets an error."""
    settings, record, levels = prepared.settings, prepared.record, prepared.levels
    record.folders |= {folder, *(level.path.parent for level in levels if level.path is not None)}
    imatrix = prepared.options.imatrix
    if imatrix == AUTO and any(level.path is None for level in levels):
        record.begin("making an importance matrix")
        imatrix = auto_imatrix(settings.source, folder, n_threads=settings.n_threads, progress=None)
    for level in levels:
        try:
            if level.path is None:
                record.begin(f"making {level.name}")
                level.make(settings.source, folder, imatrix=imatrix, n_threads=settings.n_threads)
            level.check()
        except LocalgenError as error:
            level.error = record.message(error)
        for variant in variants_of(settings, [level]):
            record.describe(variant)


def usable_levels(prepared: Preparation) -> list[Level]:
    """Return the levels that can be measured; one with another vocabulary gets an error.

    Raises CompareError if none is left.
    """
    settings, record, levels = prepared.settings, prepared.record, prepared.levels
    source = gate.check_model(settings.source).shards[0].tokens
    for level in levels:
        if level.file is not None and level.file.shards[0].tokens != source:
            level.error = (
                f"its vocabulary differs from that of {settings.source.name}, so they cannot be "
                f"compared token by token"
            )
            for variant in variants_of(settings, [level]):
                record.set(variant, error=level.error)
    usable = [level for level in levels if level.error is None]
    if not usable:
        raise CompareError(
            "no level can be measured: "
            + "; ".join(f"{level.name}: {level.error}" for level in levels)
        )
    return usable
