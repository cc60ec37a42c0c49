"""Measures the speed of all variants in rounds, so that drift affects all of them alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from localgen.benchmark.measuring import Spread
from localgen.compare import speed
from localgen.compare.level_result import SpeedAtDepth
from localgen.compare.levels import Variant
from localgen.compare.record import Record
from localgen.compare.settings import Settings, default_text
from localgen.errors import LocalgenError
from localgen.model import LocalModel

_N_COLD = 1


def measure_speed(
    settings: Settings, record: Record, reference: Variant, variants: Sequence[Variant]
) -> None:
    """Measure each variant without a result, in turn; the first round has a cold page cache."""
    todo = [variant for variant in variants if record[variant].decode_tps is None]
    cold: dict[str, list[float]] = {variant.label: [] for variant in todo}
    found: dict[str, list[speed.Measured]] = {variant.label: [] for variant in todo}
    token_ids = _prompt(reference, speed.n_tokens(settings.depths))
    n_ctx = max(speed.N_CTX, len(token_ids) + speed.N_DECODE)
    record.plan(len(todo) * (settings.n_rounds + _N_COLD))
    for number in range(settings.n_rounds + _N_COLD):
        is_cold = number < _N_COLD
        for variant in todo:
            if record[variant].error is not None:
                continue
            label = variant.label
            task = speed.Task(
                str(variant.path),
                dataclasses.asdict(variant.config(n_ctx=n_ctx, n_threads=settings.n_threads)),
                token_ids,
                is_cold,
                () if is_cold else settings.depths,
                energy=bool(settings.energy) and not is_cold,
            )
            try:
                measured = speed.measure(task)
            except LocalgenError as error:
                record.fail(variant, error)
                continue
            if is_cold:
                if measured.was_cold:
                    cold[label].append(measured.load_seconds)
            else:
                found[label].append(measured)
                record.set(variant, **_as_fields(found[label], cold[label], settings.depths))
            record.step(f"speed of {label}")


def _prompt(reference: Variant, n_tokens: int) -> list[int]:
    """Return the prompts' token ids, the same for all variants."""
    with LocalModel.from_pretrained(reference.path, n_ctx=512, use_profile=False) as model:
        token_ids = model.tokenizer.encode(default_text()[: 40 * n_tokens])
    return (token_ids * (1 + n_tokens // len(token_ids)))[:n_tokens]


def _as_fields(
    found: list[speed.Measured], cold: list[float], depths: Sequence[int]
) -> dict[str, Any]:
    names = ["load_seconds", "prefill_tps", "decode_tps", "ttft_seconds"]
    if found[0].decode_joules is not None:
        names += ["prefill_joules", "decode_joules"]
    return {
        "at_depths": tuple(
            _at_depth(depth, [each.at_depths[index] for each in found])
            for index, depth in enumerate(depths)
        ),
        **{name: Spread.of([getattr(each, name) for each in found]) for name in names},
        "cold_load_seconds": Spread.of(cold) if cold else None,
        "peak_rss_bytes": max(each.peak_rss_bytes for each in found),
        "flash_attention": found[-1].flash_attention,
    }


def _at_depth(depth: int, found: Sequence[tuple[float | None, float]]) -> SpeedAtDepth:
    prefills = [prefill for prefill, _ in found if prefill is not None]
    return SpeedAtDepth(
        depth=depth,
        prefill_tps=Spread.of(prefills) if prefills else None,
        decode_tps=Spread.of([decode for _, decode in found]),
    )
