"""``localgen compare``: quantization levels of a model side by side, and which one to keep."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from localgen.cli.tables import print_table
from localgen.compare import Comparison, LevelResult, Spread
from localgen.compare import compare as measure
from localgen.errors import CompareError
from localgen.progress import step_bar
from localgen.units import as_size

_BAR_WIDTH = 12


def compare(
    source: Annotated[
        str | None, typer.Argument(metavar="SRC", help="A model, as -m takes it.")
    ] = None,
    levels: Annotated[
        str,
        typer.Option(metavar="A,B,…", help="Types to make from SRC, files, or names on the Hub."),
    ] = "F16,Q8_0,Q6_K,Q5_K_M,Q4_K_M,Q4_0,Q3_K_M,Q2_K",
    kv_types: Annotated[
        str, typer.Option(metavar="A,B,…", help="Types of the KV cache to try each with.")
    ] = "f16",
    text: Annotated[
        Path | None, typer.Option(metavar="FILE", help="UTF-8 text to measure quality on.")
    ] = None,
    n_ctx: Annotated[int, typer.Option(help="Tokens of a chunk.")] = 512,
    chunks: Annotated[int, typer.Option(help="Chunks of the text.")] = 16,
    rounds: Annotated[int, typer.Option(help="Rounds of speed.")] = 3,
    no_speed: Annotated[bool, typer.Option("--no-speed", help="Quality alone.")] = False,
    no_quality: Annotated[bool, typer.Option("--no-quality", help="Speed alone.")] = False,
    imatrix: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For the levels that are made.")
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the files that are made here.")
    ] = None,
    n_threads: Annotated[int | None, typer.Option(help="CPU threads (all).")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write each result here (JSON)."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what --output has.")] = False,
    from_json: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Show a result again; several are merged."),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="4GB", help="The most memory the kept level may take.")
    ] = None,
    max_kld: Annotated[
        float | None, typer.Option(help="The largest mean KLD of the kept level.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure quantization levels of SRC side by side, and say which one to keep."""
    if (source is None) == (from_json is None):
        raise ValueError("give SRC, or --from-json FILE")
    if from_json:
        found = [Comparison.load(path) for path in from_json]
        result = found[0] if len(found) == 1 else Comparison.merged(found)
    else:
        with step_bar("comparing") as progress:
            result = measure(
                source or "",
                [level.strip() for level in levels.split(",")],
                text=None if text is None else _read(text),
                n_ctx=n_ctx,
                n_chunks=chunks,
                kv_types=[each.strip() for each in kv_types.split(",")],
                speed=not no_speed,
                quality=not no_quality,
                n_rounds=rounds,
                n_threads=n_threads,
                imatrix=imatrix,
                keep=keep,
                results=output,
                resume=resume,
                progress=progress,
            )
    if as_json:
        print(result.to_json())
    else:
        _print(result)
    _recommend(result, budget, max_kld)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise CompareError(
            f"{path} is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from error


def _print(result: Comparison) -> None:
    most = max((level.kld_mean or 0.0 for level in result.levels), default=0.0)
    columns = (
        "level",
        "size",
        "bits/w",
        "load",
        "prefill",
        "decode",
        "ppl",
        "KLD",
        "",
        "same top",
        "same text",
    )
    rows = [_cells(level, most) for level in result.levels if level.error is None]
    print_table(columns, rows, right="size bits/w load prefill decode ppl KLD")
    for level in result.levels:
        if level.error is not None:
            print(f"localgen: {level.label}: {level.error}", file=sys.stderr)
    if result.noise is not None and result.noise.kld_mean is not None:
        print(f"noise: {result.noise.name}: KLD {result.noise.kld_mean:.2g}")
    for note in result.notes:
        print(f"note: {note}")


def _cells(level: LevelResult, most: float) -> tuple[str, ...]:
    kld = "-" if level.kld_mean is None else f"{level.kld_mean:.4f} ± {level.kld_se or 0:.4f}"
    share = (level.kld_mean or 0.0) / most if most else 0.0
    ppl = "-" if level.perplexity is None else f"{level.perplexity:.2f} ± {level.perplexity_se:.2f}"
    top = "-" if level.top1_agreement is None else f"{100 * level.top1_agreement:.1f} %"
    same = "-" if level.divergence_tokens is None else f"{level.divergence_tokens:g} tokens"
    return (
        level.label,
        as_size(level.file_bytes or 0),
        f"{level.bits_per_weight or 0:.2f}",
        _spread(level.load_seconds, "s", 2),
        _spread(level.prefill_tps, "/s", 0),
        _spread(level.decode_tps, "/s", 0),
        ppl,
        kld,
        "█" * round(_BAR_WIDTH * share),
        "reference" if level.is_reference else top,
        "" if level.is_reference else same,
    )


def _spread(found: Spread | None, unit: str, digits: int) -> str:
    if found is None:
        return "-"
    half = (found.high - found.low) / 2
    return f"{found.median:.{digits}f} ± {half:.{digits}f} {unit}"


def _recommend(result: Comparison, budget: str | None, max_kld: float | None) -> None:
    if all(level.kld_mean is None for level in result.levels):
        return
    print(result.recommend(memory=budget, max_kld=max_kld).sentence, file=sys.stderr)
