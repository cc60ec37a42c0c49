"""Measures the speed of all variants in rounds, so that drift affects all of them alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from localgen.benchmark.measuring import Spread
from localgen.compare import speed
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
    token_ids = _prompt(reference)
    record.plan(len(todo) * (settings.n_rounds + _N_COLD))
    for number in range(settings.n_rounds + _N_COLD):
        is_cold = number < _N_COLD
        for variant in todo:
            if record[variant].error is not None:
                continue
            label = variant.label
            task = speed.Task(
                str(variant.path), variant.kv_type, settings.n_threads, token_ids, is_cold
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
                record.set(variant, **_as_fields(found[label], cold[label]))
            record.step(f"speed of {label}")


def _prompt(reference: Variant) -> list[int]:
    """Return the prompt's token ids, the same for all variants."""
    with LocalModel.from_pretrained(reference.path, n_ctx=512, use_profile=False) as model:
        token_ids = model.tokenizer.encode(default_text()[: 40 * speed.N_PREFILL])
    return token_ids[: speed.N_PREFILL]


def _as_fields(found: list[speed.Measured], cold: list[float]) -> dict[str, Any]:
    names = ("load_seconds", "prefill_tps", "decode_tps", "ttft_seconds")
    return {
        **{name: Spread.of([getattr(each, name) for each in found]) for name in names},
        "cold_load_seconds": Spread.of(cold) if cold else None,
        "peak_rss_bytes": max(each.peak_rss_bytes for each in found),
        "flash_attention": found[-1].flash_attention,
    }
