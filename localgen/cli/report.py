"""``localgen report``: make the page of earlier comparisons again, and say what to keep."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from localgen.cli.option_groups import with_options
from localgen.cli.recommending import RecommendationLimits
from localgen.cli.tables import printable
from localgen.compare import report as reports
from localgen.compare.advice import MachineAdvice, advice_by_machine
from localgen.compare.collecting import collect

_NAME = "report.html"


@with_options
def report(
    *,
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR", help="Read the results in these folders (*.json) or files; merge them."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Write the page to FILE.",
            show_default=f"{_NAME} in the first DIR",
        ),
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="FILE", help="Write plots to FILE, too.")
    ] = None,
    limits: RecommendationLimits,
) -> None:
    """Write one page from the results of localgen compare in DIR; nothing is measured.

    Results are the files that compare --output wrote. Those of several machines appear side by
    side. The files of quantize --losses appear as heat maps: how much each part of the model loses
    alone.
    """
    page = output if output is not None else _folder(paths[0]) / _NAME
    reports.check_targets(html=page, png=png)
    found = collect(paths)
    for reason in found.skipped:
        print(f"localgen: left out: {printable(reason)}", file=sys.stderr)
    for sentence in found.unfinished:
        print(f"localgen: {printable(sentence)}", file=sys.stderr)
    reports.save_html(found.result, page, heat_maps=found.heat_maps, **limits.given())
    if png is not None:
        reports.save_png(found.result, png, **limits.given())
    for advice in advice_by_machine(found.result, limits.budget, limits.max_kld).values():
        _print(advice)
    print(f"report: {page}")


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _print(advice: MachineAdvice) -> None:
    print(printable(advice.full_sentence))
    for line in advice.by_size:
        print(printable(f"  for {line.machine}: {line.sentence}"))
