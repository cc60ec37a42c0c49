"""Compare mixtures of types for a size with the nearest level of llama.cpp's.

    python benchmarks/mixtures.py [--sizes SIZE…] [--chunks N] [--losses FILE] [--output DIR]

Mixtures are made from an F16 file; --model names it, else one is made of SmolLM2. The level is the
largest that is no larger than the mixture. Both are measured on text that the search has not used.
The last line of the output is one JSON object.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from common import Row, argument_parser, progress, report, usable_cpus
from imatrix import source_of

from localgen import QuantizedMixture, quantize


def row_of(size: str, found: QuantizedMixture) -> Row:
    """Return a mixture beside the level below it."""
    row: Row = {"asked": size, "MB": found.file.n_bytes / 1e6, "KLD": found.kld.value}
    below = found.below
    if below is None:
        return row
    return {
        **row,
        "level": below.level,
        "its MB": below.n_bytes / 1e6,
        "its KLD": below.kld.value,
        "more by": below.difference.value,
        "paired error": below.difference.se,
        "errors apart": below.difference.value / below.difference.se,
    }


def main() -> None:
    """Search for each size, and report."""
    parser = argument_parser(__doc__, rounds=1)
    parser.add_argument("--sizes", nargs="+", default=["90MB", "105MB", "120MB"])
    parser.add_argument("--chunks", type=int, default=4, help="to search on, and to measure on")
    parser.add_argument("--losses", type=Path, help="keep measured losses in this file")
    parser.add_argument("--imatrix", help="the file of an importance matrix, for both")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = source_of(options.model, folder)
        for size in options.sizes:
            found = quantize(
                source,
                target_size=size,
                n_chunks=options.chunks,
                losses=options.losses or folder / "losses.json",
                imatrix=options.imatrix,
                output=folder,
                progress=lambda done, steps, what: progress(f"{done}/{steps} {what}"),
            )
            rows.append(row_of(size, found))
            found.file.path.unlink()
    note = f"""Mean KL divergence from the source, in nats, over {options.chunks} chunks of 512
        tokens of CPython's own prose that the search has not used. "level": the largest of
        llama.cpp's that is no larger. "paired error": the standard error of the mean difference
        over tokens. SmolLM2's F16 file is made of the published Q4_1 file, whose blocks Q4_K
        repeats nearly exactly. The search finds that, so the gain may be smaller from an F16 file
        as it was published."""
    report("mixtures", rows, options, threads=usable_cpus(), note=note)


if __name__ == "__main__":
    main()
