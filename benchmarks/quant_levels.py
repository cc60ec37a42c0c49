"""Compare all quantization levels of SmolLM2 in quality, speed and memory.

python benchmarks/quant_levels.py --output benchmarks/results

The SmolLM2 package holds a Q4_1 file, from which the F16 is made: loss is measured from that file,
not from the model as it was published.
"""

from __future__ import annotations

import time

from common import Row, argument_parser, progress, report, usable_cpus

from localgen.compare import LevelResult, compare, save_png

LEVELS = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
_PLOT = "quant_levels.png"


def main() -> None:
    """Compare the levels; write the table, and the plot beside it."""
    parser = argument_parser(__doc__, rounds=3, new_tokens=64)
    parser.add_argument("--chunks", type=int, default=16)
    options = parser.parse_args()
    started = time.perf_counter()
    found = compare(
        options.model,
        LEVELS,
        n_chunks=options.chunks,
        n_rounds=options.rounds,
        progress=lambda done, steps, what: progress(f"{done}/{steps} {what}"),
    )
    seconds = time.perf_counter() - started
    noise = found.noise.kld_mean if found.noise is not None else None
    note = (
        f"Made from the published Q4_1 file, so that loss is measured from that file on. "
        f"{options.chunks} chunks of 512 tokens of CPython's own prose. Speeds in tokens/s, each "
        f"level in a fresh process, in turn. The reference against itself under other threads and "
        f"batches: KLD {noise:.2g}. All of it took {seconds:.0f} s. "
        f"{found.recommend().sentence}"
    )
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        save_png(found, options.output / _PLOT)
        note += f"\n\n![quality and speed against size]({options.output.name}/{_PLOT})"
    rows = [_row(level) for level in found.levels]
    report("quant_levels", rows, options, threads=usable_cpus(), note=note)


def _row(level: LevelResult) -> Row:
    def median(name: str) -> float | None:
        found = getattr(level, name)
        return None if found is None else float(found.median)

    return {
        "level": level.name,
        "MB": (level.file_bytes or 0) / 1e6,
        "bits/weight": level.bits_per_weight,
        "perplexity": level.perplexity,
        "± ": level.perplexity_se,
        "KLD": level.kld_mean,
        "±": level.kld_se,
        "same top": level.top1_agreement,
        "same text": level.divergence_tokens,
        "load s": median("load_seconds"),
        "prefill": median("prefill_tps"),
        "decode": median("decode_tps"),
        "peak MB": (level.peak_rss_bytes or 0) / 1e6,
    }


if __name__ == "__main__":
    main()
