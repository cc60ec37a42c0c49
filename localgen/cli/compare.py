"""``localgen compare``: quantization levels of a model side by side, and which one to keep."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from localgen._util.progress import step_bar
from localgen.cli.tables import print_table
from localgen.compare import Comparison, report
from localgen.compare import compare as measure
from localgen.compare.formats import COLUMNS, KLD, noise_line, share_of_most
from localgen.compare.recommend import parse_bytes
from localgen.errors import CompareError

_BAR_WIDTH = 12
# What a result that was measured earlier can still be asked for.
_OF_A_RESULT = {"from_json", "output", "png", "html", "budget", "max_kld", "as_json"}


def compare(
    context: typer.Context,
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
        typer.Option(metavar="FILE", help="Show a result again; several are merged, for -o too."),
    ] = None,
    png: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Plots of it.")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="A page of it: all in one file.")
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
    _check_use(context, from_json=bool(from_json), no_quality=no_quality)
    report.check_targets([path for path in (png, html) if path is not None])
    if budget is not None:
        parse_bytes(budget)  # a wrong one is said before the measuring, not after
    if from_json:
        found = [Comparison.load(path) for path in from_json]
        result = found[0] if len(found) == 1 else Comparison.merged(found)
        if output is not None:
            result.save(output)
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
    if png is not None:
        report.save_png(result, png, memory=budget, max_kld=max_kld)
    if html is not None:
        report.save_html(result, html, memory=budget, max_kld=max_kld)
    if as_json:
        print(result.to_json())
    else:
        _print(result)
    _recommend(result, budget, max_kld)


def _check_use(context: typer.Context, *, from_json: bool, no_quality: bool) -> None:
    """ValueError for options that would change nothing."""
    given = [
        name
        for name in context.params
        if (source := context.get_parameter_source(name)) and source.name != "DEFAULT"
    ]
    if from_json and (unused := [name for name in given if name not in _OF_A_RESULT]):
        raise ValueError(
            f"{_flags(unused)} cannot be used with --from-json, which measures nothing; leave "
            f"them out, or give SRC"
        )
    if no_quality and (unused := [name for name in given if name in ("budget", "max_kld")]):
        raise ValueError(
            f"{_flags(unused)} cannot be used with --no-quality: the level to keep is chosen by "
            f"its KLD"
        )


def _flags(names: list[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise CompareError(
            f"{path} is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from error


def _print(result: Comparison) -> None:
    columns = [column for column in COLUMNS if column.in_terminal]
    titles = [column.title for column in columns]
    after = titles.index(KLD.title) + 1
    rows = []
    for level in result.levels:
        if level.error is None:
            row = [column.text(level) for column in columns]
            bar = "█" * round(_BAR_WIDTH * share_of_most(level, result))
            rows.append([*row[:after], bar, *row[after:]])
    right = "size bits/w load prefill decode ppl KLD"
    print_table([*titles[:after], "", *titles[after:]], rows, right=right)
    for level in result.levels:
        if level.error is not None:
            print(f"localgen: {level.label}: {level.error}", file=sys.stderr)
    if noise := noise_line(result):
        print(noise)
    for note in result.notes:
        print(f"note: {note}")


def _recommend(result: Comparison, budget: str | None, max_kld: float | None) -> None:
    is_asked = budget is not None or max_kld is not None
    if not is_asked and all(level.kld_mean is None for level in result.levels):
        return
    print(result.recommend(memory=budget, max_kld=max_kld).sentence, file=sys.stderr)
