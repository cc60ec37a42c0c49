"""Generates greedy texts with each variant; ``divergence`` compares them with the reference's."""

from __future__ import annotations

from collections.abc import Sequence

from localgen.compare.divergence import N_NEW, PROMPTS, divergences, median_tokens
from localgen.compare.levels import Variant
from localgen.compare.record import Record
from localgen.compare.settings import Settings
from localgen.completion import Completion
from localgen.errors import LocalgenError
from localgen.llama.backend import LlamaBackend
from localgen.model import LocalModel


def measure_texts(
    settings: Settings, record: Record, reference: Variant, variants: Sequence[Variant]
) -> None:
    """Measure how long each variant's texts agree with the reference's, if not done yet."""
    todo = [variant for variant in variants if record[variant].divergence_tokens is None]
    if not todo:
        return
    expected = _texts(reference, settings.n_threads)
    for variant in todo:
        try:
            found = divergences(PROMPTS, expected, _texts(variant, settings.n_threads))
        except LocalgenError as error:
            record.fail(variant, error)
            continue
        record.set(variant, divergences=found, divergence_tokens=median_tokens(found))


def _texts(variant: Variant, n_threads: int) -> list[Completion]:
    config = variant.config(n_ctx=512, n_threads=n_threads)
    with LocalModel(LlamaBackend(variant.path, config, adapts=False), config) as model:
        return model.complete(list(PROMPTS), max_new_tokens=N_NEW, do_sample=False)
