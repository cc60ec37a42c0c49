"""Makes a reference pack from a loaded reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from localgen._util.atomic_write import check_writable, holds_data
from localgen._util.format import as_size
from localgen.benchmark.measuring import surroundings
from localgen.compare.divergence import GreedyText
from localgen.compare.level_result import LevelResult
from localgen.compare.packed_rows import N_SAMPLES, N_TOP, Packed
from localgen.compare.reference import LiveReference
from localgen.compare.reference_pack import (
    About,
    PackedModel,
    ReferencePack,
    is_pack,
    tokenizer_sha256,
    write_pack,
)
from localgen.engine.backend import TokenIds
from localgen.errors import CompareError
from localgen.gguf.gate import ModelFile

_LOGIT_BYTES = 4


def check_target(path: Path, *, may_exist: bool) -> None:
    """Raise CompareError or OSError if a pack cannot be written to ``path``, before anything is
    measured, or if that is the name of a model, of a file of another kind, or of a pack that may
    not be replaced."""
    if path.suffix.lower() == ".gguf":
        raise CompareError(
            f"the reference pack {path} would have the name of a model. Use {path.stem}.pack."
        )
    if holds_data(path) and not is_pack(path):
        raise CompareError(
            f"{path} holds something else than a reference pack, which would be lost. Write to "
            f"another file."
        )
    if not may_exist and holds_data(path):
        raise CompareError(
            f"{path} exists, and would be lost: overwrite=True replaces it. Or write to another "
            f"file."
        )
    check_writable(path)


def about_reference(
    row: LevelResult,
    file: ModelFile,
    parts: Sequence[TokenIds],
    *,
    text_sha256: str,
    texts: Sequence[GreedyText],
) -> About:
    """Return what a pack says about its reference, which ``row`` describes."""
    n_vocab = len(file.shards[0].tokens)
    names = [field.name for field in dataclasses.fields(PackedModel)]
    return About(
        reference=PackedModel(**{name: getattr(row, name) for name in names}),
        text_sha256=text_sha256,
        tokenizer_sha256=tokenizer_sha256(file),
        n_vocab=n_vocab,
        n_ctx=len(parts[0]),
        n_chunks=len(parts),
        n_top=min(N_TOP, n_vocab),
        n_samples=N_SAMPLES,
        made_with=surroundings(),
        texts=tuple(texts),
    )


def make_pack(
    path: Path,
    about: About,
    reference: LiveReference,
    parts: Sequence[TokenIds],
    step: Callable[[], None],
) -> str:
    """Write a pack and return a sentence with its size and its error.

    step: called after each chunk.
    """

    def rows() -> Iterator[Packed]:
        for number in range(len(parts)):
            yield reference.packed(number, about.dtype)
            step()

    write_pack(path, about, parts, rows())
    saved = ReferencePack(path)
    largest = max(float(saved.rows(number)["step"].max()) for number in range(len(parts)))
    n_bytes = path.stat().st_size
    share = _LOGIT_BYTES * about.n_vocab * about.n_scored * len(parts) / n_bytes
    return (
        f"{about.reference.name} is saved in {path.name}: {as_size(n_bytes)}, 1/{share:.0f} of its "
        f"logits; each log-probability is off by at most {largest / 2:.1g}"
    )
