"""Find out which quantization level of a model to keep, given a memory budget.

Makes each level, measures it beside the one with the most bits, and prints a table and a
recommendation.

    python examples/compare_levels.py --model smollm2 --levels Q8_0 Q4_K_M Q4_0 --budget 120MB

Measure on text like yours (`--text mine.txt`): what a level loses depends on it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from localgen import CompareError
from localgen.compare import Comparison, LevelResult, compare


def show_progress(done: float, total: float, what: str) -> None:
    """Print what is measured next."""
    print(f"[{done:.0f}/{total:.0f}] {what}", file=sys.stderr)


def row(level: LevelResult) -> str:
    """Return one line of the table; what was not measured is a dash."""
    if level.error is not None:
        return f"{level.name:8} failed: {level.error}"
    size = f"{level.file_bytes / 1e6:.0f} MB" if level.file_bytes else "-"
    memory = f"{level.peak_rss_bytes / 1e6:.0f} MB" if level.peak_rss_bytes else "-"
    speed = f"{level.decode_tps.median:.0f}" if level.decode_tps else "-"
    kld = "reference" if level.is_reference else f"{level.kld_mean:.4f}"
    return f"{level.name:8} {size:>9} {memory:>9} {speed:>9} {kld:>10}"


def table(result: Comparison) -> str:
    """Return the levels as text: the larger the KLD, the further from the reference."""
    header = f"{'level':8} {'file':>9} {'memory':>9} {'tokens/s':>9} {'mean KLD':>10}"
    return "\n".join([header, *map(row, result.levels)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--model", default="smollm2", help="best an F16 file: levels are made from it"
    )
    parser.add_argument("--levels", nargs="+", default=["Q8_0", "Q5_K_M", "Q4_K_M", "Q4_0"])
    parser.add_argument("--budget", help="the most that it may take, as 120MB or 6GiB")
    parser.add_argument("--max-kld", type=float, help="how far the model may be from the reference")
    parser.add_argument("--text", type=Path, help="what to measure on (default: English prose)")
    parser.add_argument("--chunks", type=int, default=8, help="of 512 tokens; more are more exact")
    parser.add_argument(
        "--speed", action="store_true", help="measure memory and speed too, and budget memory"
    )
    parser.add_argument("--keep", type=Path, help="a folder for the files (default: removed)")
    args = parser.parse_args()
    result = compare(
        args.model,
        args.levels,
        text=args.text.read_text("utf-8") if args.text else None,
        n_chunks=args.chunks,
        speed=args.speed,
        n_rounds=1,
        keep=args.keep,
        progress=show_progress,
    )
    print(table(result))
    try:
        print(result.recommend(memory=args.budget, max_kld=args.max_kld).sentence)
    except CompareError as error:  # it says how far the nearest level is
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
