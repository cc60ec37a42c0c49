"""Compare levels made with localgen's importance matrix and without: what each loses.

    python benchmarks/imatrix.py [--levels LEVEL…] [--chunks N] [--calibration N] [--output DIR]

Levels are made from an F16 file; --model names it, else one is made of SmolLM2. The matrix is made
from localgen's default calibration text, and losses are measured on English prose that comes with
CPython. Both files of a level are measured on the same tokens, so the error of their difference is
paired. The last line of the output is one JSON object.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

from common import Row, argument_parser, progress, report, usable_cpus

from localgen import hub, imatrix, quantize
from localgen.compare.metrics import mean
from localgen.compare.settings import default_text
from localgen.gguf import gate
from localgen.mixtures.meter import Meter, text_parts

LEVELS = ("Q4_K_M", "IQ3_S", "Q2_K")
N_CTX = 512


def source_of(model: str, folder: Path) -> Path:
    """Return an F16 file: the given one, or one that is made of SmolLM2."""
    if model != "smollm2":
        return hub.resolve(model)
    return quantize(model, "F16", output=folder, allow_requantize=True).path


def rows_of(source: Path, matrix: Path, levels: list[str], folder: Path, meter: Meter) -> list[Row]:
    rows: list[Row] = []
    for level in levels:
        progress(level)
        plain = quantize(source, level, output=folder)
        without = meter.verified(plain.path)
        weighted = quantize(source, level, output=folder, imatrix=matrix)
        with_matrix = meter.verified(weighted.path)
        gain = mean(without - with_matrix)
        rows.append(
            {
                "level": level,
                "MB": weighted.n_bytes / 1e6,
                "KLD without": mean(without).value,
                "KLD with": mean(with_matrix).value,
                "less by": gain.value,
                "paired error": gain.se,
                "errors apart": gain.value / gain.se,
            }
        )
        weighted.path.unlink()
    return rows


def main() -> None:
    """Make the matrix and the levels, and measure them."""
    parser = argument_parser(__doc__, rounds=1)
    parser.add_argument("--levels", nargs="+", default=[*LEVELS])
    parser.add_argument("--chunks", type=int, default=16, help="of 512 tokens to measure on")
    parser.add_argument("--calibration", type=int, help="chunks for the matrix; default: all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = source_of(options.model, folder)
        made = imatrix(source, output=folder / "matrix.gguf", n_chunks=options.calibration)
        progress(f"a matrix of {made.n_chunks} chunks")
        file, threads = gate.check_model(source), usable_cpus()
        parts = text_parts(source, default_text(), N_CTX, options.chunks)
        with closing(Meter(file, folder, parts, threads)) as meter:
            rows = rows_of(source, made.path, options.levels, folder, meter)
    note = f"""Mean KL divergence from the F16 file, in nats, over {options.chunks} chunks of
        {N_CTX} tokens that the matrix was not made from. The matrix is of {made.n_chunks} chunks of
        {N_CTX} tokens. "paired error": the standard error of the mean difference over tokens."""
    report("imatrix", rows, options, threads=threads, note=note)


if __name__ == "__main__":
    main()
