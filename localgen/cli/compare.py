"""``localgen compare``: compare quantization levels of a model and recommend one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from localgen._util.progress import step_bar
from localgen._util.text_file import read_text
from localgen.cli.options import MODEL_FORMS, Threads
from localgen.cli.tables import print_table, printable
from localgen.compare import Comparison, report
from localgen.compare import compare as measure
from localgen.compare.checks import check_new
from localgen.compare.compute_device import FORMS
from localgen.compare.extra_tables import extra_tables
from localgen.compare.formats import (
    KLD,
    Column,
    fixed_line,
    measured_columns,
    noise_line,
    shares_of_most,
)
from localgen.compare.level_result import LevelResult
from localgen.compare.machines import by_machine, machine_settings, merge
from localgen.compare.recommend import parse_bytes
from localgen.compare.result_names import result_names
from localgen.compare.task_table import TASK_TITLES, task_tables
from localgen.errors import CompareError, GenerationInterrupted

_BAR_WIDTH = 12
_LEVELS = "F16,Q8_0,Q6_K,Q5_K_M,Q4_K_M,Q4_0,Q3_K_M,Q2_K"
_PACKS = ("reference_pack", "save_reference_pack")
# Options that apply to earlier results too.
_OF_A_RESULT = {"from_json", "output", "overwrite", "png", "html", "budget", "max_kld", "as_json"}


def compare(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(metavar="SRC", help=f"Compare levels of this model: {MODEL_FORMS}."),
    ] = None,
    levels: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help="Compare these: levels to make from SRC, files or Hub names.",
            show_default=f"{_LEVELS}; with --reference-pack SRC itself",
        ),
    ] = None,
    kv_types: Annotated[
        str, typer.Option(metavar="A,B,…", help="Try each level with these KV cache types.")
    ] = "f16",
    text: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Measure quality on this UTF-8 text.",
            show_default="English prose that comes with Python",
        ),
    ] = None,
    n_ctx: Annotated[
        int | None,
        typer.Option(help="Cut the text into chunks of this many tokens.", show_default="512"),
    ] = None,
    chunks: Annotated[
        int | None, typer.Option(help="Use this many chunks of the text.", show_default="16")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Measure speed this many times.")] = 3,
    no_speed: Annotated[bool, typer.Option("--no-speed", help="Measure quality only.")] = False,
    no_quality: Annotated[bool, typer.Option("--no-quality", help="Measure speed only.")] = False,
    imatrix: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Make levels with this importance matrix; auto makes one first."
        ),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            "--tasks",
            metavar="NAMES",
            help="Ask each level these questions: a file (JSON Lines or CSV), demo, or names of "
            "lm-eval's tasks, separated by commas; can be repeated.",
        ),
    ] = None,
    devices: Annotated[
        str, typer.Option(metavar="A,B,…", help=f"Try each level on these devices: {FORMS}.")
    ] = "auto",
    chats: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Compare greedy replies to the chats of FILE (JSON Lines with messages), or of "
            "localgen's own: auto.",
        ),
    ] = None,
    depths: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="Measure speed after so many cached tokens, too."),
    ] = None,
    energy: Annotated[
        bool, typer.Option("--energy", help="Measure joules per token (Linux, Intel and AMD).")
    ] = False,
    task_limit: Annotated[
        int | None,
        typer.Option(
            min=1, help="Use this many questions of each task.", show_default="all of them"
        ),
    ] = None,
    include_path: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also find lm-eval's tasks in the YAML files of DIR."),
    ] = None,
    reference_pack: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Measure quality against the reference pack in FILE, without the reference.",
        ),
    ] = None,
    save_reference_pack: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Save the reference's predictions in FILE."),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the quantized files in DIR.")
    ] = None,
    n_threads: Threads = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write results to FILE (JSON) as they come in."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume from the results in --output.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start over and discard what --output holds.")
    ] = False,
    from_json: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Show earlier results, measuring nothing; repeat to merge several."
        ),
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="FILE", help="Write plots to FILE.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a self-contained report to FILE."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="4GB", help="Recommend a level that needs at most this much memory."),
    ] = None,
    max_kld: Annotated[
        float | None, typer.Option(help="Recommend a level with at most this mean KLD.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare quantization levels of SRC and recommend one to keep."""
    if (source is None) == (from_json is None):
        raise ValueError("give either SRC or --from-json FILE")
    _check_use(context, from_json=bool(from_json), no_quality=no_quality)
    report.check_targets([path for path in (png, html) if path is not None])
    if budget is not None:
        parse_bytes(budget)  # before the measurements: it may be wrong
    unsaved: CompareError | None = None
    if from_json:
        result = _merged(from_json, output, overwrite=overwrite)
    else:
        names, types = _level_names(levels, source or "", reference_pack), _parts(kv_types)
        try:
            with step_bar("comparing") as progress:
                result = measure(
                    source or "",
                    names,
                    text=None if text is None else _read(text),
                    n_ctx=n_ctx,
                    n_chunks=chunks,
                    kv_types=types,
                    speed=not no_speed,
                    quality=not no_quality,
                    n_rounds=rounds,
                    n_threads=n_threads,
                    imatrix=imatrix,
                    devices=_parts(devices),
                    chats=chats,
                    depths=_numbers(depths),
                    energy=energy,
                    tasks=_task_names(tasks or ()),
                    task_limit=task_limit,
                    include_path=include_path,
                    reference_pack=reference_pack,
                    save_reference_pack=save_reference_pack,
                    keep=keep,
                    results=output,
                    resume=resume,
                    overwrite=overwrite,
                    progress=progress,
                )
        except GenerationInterrupted as error:
            n_levels = len(names) * len(types) * len(_parts(devices))
            _report_interrupt(error.partial, n_levels, output)
            raise
        except CompareError as error:
            if error.partial is None:
                raise
            result, unsaved = error.partial, error
    # Last first. Each is done even if another fails: the measurements may have taken hours.
    with ExitStack() as outputs:
        outputs.callback(_recommend, result, budget, max_kld)
        if html is not None:
            outputs.callback(report.save_html, result, html, memory=budget, max_kld=max_kld)
        if png is not None:
            outputs.callback(report.save_png, result, png, memory=budget, max_kld=max_kld)
        outputs.callback(_print, result, as_json=as_json)
    if unsaved is not None:
        raise unsaved


def _check_use(context: typer.Context, *, from_json: bool, no_quality: bool) -> None:
    """Raise ValueError for options that would have no effect."""
    given = [
        name
        for name in context.params
        if (source := context.get_parameter_source(name)) and source.name != "DEFAULT"
    ]
    if from_json and (unused := [name for name in given if name not in _OF_A_RESULT]):
        raise ValueError(
            f"{_flags(unused)} cannot be used with --from-json, which measures nothing. Leave "
            f"out {'it' if len(unused) == 1 else 'them'}, or give SRC instead of --from-json."
        )
    for name in ("resume", "overwrite"):
        if name in given and "output" not in given:
            raise ValueError(f"{_flags([name])} needs --output, the file of the results")
    if no_quality and (unused := [name for name in given if name in _PACKS]):
        raise ValueError(f"{_flags(unused)} cannot be used with --no-quality: it is for quality")
    if no_quality and (unused := [name for name in given if name in ("budget", "max_kld")]):
        raise ValueError(
            f"{_flags(unused)} cannot be used with --no-quality: recommending a level needs its KLD"
        )


def _merged(paths: Sequence[Path], output: Path | None, *, overwrite: bool) -> Comparison:
    """Return earlier results as one, written to ``output``."""
    result = merge([Comparison.load(path) for path in paths])
    if output is not None:
        if not overwrite:
            check_new(output, "--overwrite replaces them")
        result.save(output)
    return result


def _flags(names: list[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _level_names(levels: str | None, source: str, reference_pack: Path | None) -> list[str]:
    if levels is None and reference_pack is not None:
        return [source]
    return _parts(_LEVELS if levels is None else levels)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _numbers(text: str | None) -> list[int]:
    if text is None:
        return []
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--depths must be comma-separated integers, got {text!r}") from None


def _task_names(given: Sequence[str]) -> list[str]:
    """Return names of tasks; a comma is part of a file's name if there is such a file."""
    lists = [[each] if each and Path(each).exists() else _parts(each) for each in given]
    return [name for names in lists for name in names]


def _report_interrupt(found: Comparison, n_levels: int, output: Path | None) -> None:
    """Say on stderr what Ctrl-C left in ``output``."""
    n_saved = sum(bool(level.perplexity or level.decode_tps) for level in found.levels)
    kept = "nothing was saved"
    if output is not None and n_saved:
        kept = (
            f"results for {n_saved} of {n_levels} levels are saved in {output}; resume with "
            f"--resume"
        )
    print(f"localgen: interrupted; {kept}", file=sys.stderr)


def _read(path: Path) -> str:
    try:
        return read_text(path)
    except ValueError as error:
        raise CompareError(f"{path} cannot be the text: {error}") from error


def _print(result: Comparison, *, as_json: bool) -> None:
    if as_json:
        print(result.to_json())
    else:
        _print_table(result)
    sys.stdout.flush()


def _print_table(result: Comparison) -> None:
    levels = [level for level in result.levels if level.error is None]
    columns = [column for column in measured_columns(levels) if column.in_terminal]
    titles = [column.title for column in columns]
    rows = [
        [text for column in columns for text in _cells(column, level, share)]
        for level, share in zip(levels, shares_of_most(levels), strict=True)
    ]
    right = ("size", "bits/w", "load", "prefill", "decode", "ppl", "KLD", "KLD p99.9", "flips")
    headers = [title for column in columns for title in _headers(column)]
    print_table(headers, rows, right=right, wrapped=titles)
    for name, cells in task_tables(result):
        print(printable(name))
        print_table([*TASK_TITLES], cells, right=TASK_TITLES[1:], wrapped=TASK_TITLES)
    for table in extra_tables(result):
        print(table.heading)
        print_table([*table.titles], table.rows, right=table.titles[1:], wrapped=table.titles)
    for level in result.levels:
        if level.error is not None:
            print(f"localgen: {level.label}: {level.error}", file=sys.stderr)
    if fixed := fixed_line(result):
        print(printable(fixed))
    if noise := noise_line(result):
        print(noise)
    for note in result.notes:
        print(f"note: {note}")


def _headers(column: Column) -> list[str]:
    return [column.title, ""] if column is KLD else [column.title]


def _cells(column: Column, level: LevelResult, share: float) -> list[str]:
    """Return a figure, and after the KLD a bar, which has a column without a title."""
    # A figure and its error are two words: a narrow terminal breaks between them.
    text = column.text(level).replace("± ", "±")
    if column is not KLD:
        return [text]
    return [text, "█" * round(_BAR_WIDTH * share)]


def _recommend(result: Comparison, budget: str | None, max_kld: float | None) -> None:
    is_asked = budget is not None or max_kld is not None
    if not is_asked and all(level.kld_mean is None for level in result.levels):
        return
    names = result_names(machine_settings(result.settings))
    for number, part in by_machine(result).items():
        name = f"{names[number]}: " if number else ""
        sentence = part.recommend(memory=budget, max_kld=max_kld).sentence
        print(printable(f"{name}{sentence}"), file=sys.stderr)
