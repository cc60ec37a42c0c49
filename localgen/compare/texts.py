"""Generates greedy texts with each variant; ``divergence`` compares them with the reference's."""

from __future__ import annotations

from collections.abc import Sequence

from localgen.compare.divergence import (
    N_NEW,
    PROMPTS,
    GreedyText,
    divergences,
    median_tokens,
)
from localgen.compare.levels import Variant
from localgen.compare.record import Record
from localgen.compare.settings import Settings
from localgen.errors import LocalgenError
from localgen.llama.backend import LlamaBackend
from localgen.model import LocalModel


def measure_texts(
    settings: Settings,
    record: Record,
    reference: Variant,
    variants: Sequence[Variant],
    expected: Sequence[GreedyText],
) -> None:
    """Measure how long each variant's texts agree with the reference's, if not done yet.

    expected: the reference's texts; without them, they are generated.
    """
    todo = [variant for variant in variants if record[variant].divergence_tokens is None]
    if not todo:
        return
    expected = expected or greedy_texts(reference, settings.n_threads)
    prompts = [each.prompt for each in expected]
    for variant in todo:
        try:
            texts = greedy_texts(variant, settings.n_threads, prompts)
            found = divergences(prompts, expected, texts)
        except LocalgenError as error:
            record.fail(variant, error)
            continue
        record.set(variant, divergences=found, divergence_tokens=median_tokens(found))


def greedy_texts(
    variant: Variant, n_threads: int, prompts: Sequence[str] = PROMPTS
) -> list[GreedyText]:
    """Return a variant's greedy text after each prompt."""
    config = variant.config(n_ctx=512, n_threads=n_threads)
    with LocalModel(LlamaBackend(variant.path, config, adapts=False), config) as model:
        done = model.complete([*prompts], max_new_tokens=N_NEW, do_sample=False)
    return [
        GreedyText(prompt, each.text, tuple(each.token_ids))
        for prompt, each in zip(prompts, done, strict=True)
    ]
