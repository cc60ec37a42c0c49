"""``localgen compare``: compare quantization levels of a model and recommend one."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from localgen._util.home import expand_user
from localgen._util.progress import step_bar
from localgen.cli.compare_tables import print_tables
from localgen.cli.declared_flags import DeclaredOptions
from localgen.cli.option_groups import with_options
from localgen.cli.options import MODEL_FORMS
from localgen.cli.pack_advice import pack_advice
from localgen.cli.recommending import RecommendationLimits
from localgen.cli.resuming import resume_command
from localgen.cli.tables import printable
from localgen.cli.typed_flags import typed_flags
from localgen.compare import Comparison, report
from localgen.compare import compare as measure
from localgen.compare.checks import check_new
from localgen.compare.machines import by_machine, machine_settings, merge
from localgen.compare.options import USUAL_LEVELS, CompareOptions
from localgen.compare.result_names import result_names
from localgen.compare.unfinished import how_to_finish
from localgen.errors import CompareError, GenerationInterrupted

# Options that apply to earlier results too.
_OF_A_RESULT = {"from_json", "results", "overwrite", "png", "html", "budget", "max_kld", "as_json"}


class MeasuringOptions(DeclaredOptions, of=CompareOptions):
    """The options of ``compare()`` as they were typed."""

    def given(self) -> dict[str, Any]:
        given = super().given()
        usual = {} if "reference_pack" in given else {"levels": USUAL_LEVELS}
        return usual | given


@with_options
def compare(
    context: typer.Context,
    *,
    source: Annotated[
        str | None,
        typer.Argument(metavar="SRC", help=f"Compare levels of this model: {MODEL_FORMS}."),
    ] = None,
    measuring: MeasuringOptions,
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
    limits: RecommendationLimits,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare quantization levels of SRC and recommend one to keep."""
    if (source is None) == (from_json is None):
        raise ValueError("give either SRC or --from-json FILE")
    _check_use(typed_flags(context))
    report.check_targets(html=html, png=png)
    given, unsaved = measuring.given(), None
    if source is None:
        result = _merged(from_json or (), given)
    else:
        result, unsaved = _measured(source, given)
    # Last first. Each is done even if another fails: the measurements may have taken hours.
    with ExitStack() as outputs:
        if source is not None and (advice := pack_advice(source, given, result)) is not None:
            outputs.callback(_say, advice)
        outputs.callback(_recommend, result, limits)
        if html is not None:
            outputs.callback(report.save_html, result, html, **limits.given())
        if png is not None:
            outputs.callback(report.save_png, result, png, **limits.given())
        outputs.callback(_print, result, as_json=as_json)
    if unsaved is not None:
        raise unsaved


def _check_use(typed: Mapping[str, str]) -> None:
    """Raise ValueError for options that would have no effect. typed: {parameter: its flag}."""
    if "from_json" in typed and (unused := [*(typed.keys() - _OF_A_RESULT)]):
        flags = [flag for name, flag in typed.items() if name in unused]
        raise ValueError(
            f"{', '.join(flags)} cannot be used with --from-json, which measures nothing. Leave "
            f"out {'it' if len(flags) == 1 else 'them'}, or give SRC instead of --from-json."
        )
    limits = [typed[name] for name in ("budget", "max_kld") if name in typed]
    if limits and "--no-quality" in typed.values():
        raise ValueError(
            f"{', '.join(limits)} cannot be used with --no-quality: recommending a level needs its "
            f"KLD"
        )


def _merged(paths: Sequence[Path], given: Mapping[str, Any]) -> Comparison:
    """Return earlier results as one, written to the file for results."""
    results = {path: Comparison.load(path) for path in paths}
    result = merge(results.values())
    for sentence in how_to_finish(results):
        _say(f"localgen: {sentence}")
    if (output := given.get("results")) is not None:
        may_exist = given["overwrite"]
        check_new(expand_user(output), "--overwrite replaces them", may_exist=may_exist)
        result.save(expand_user(output))
    return result


def _measured(source: str, given: Mapping[str, Any]) -> tuple[Comparison, CompareError | None]:
    """Return what was measured, and why it could not be written in the end."""
    try:
        with step_bar("comparing") as progress:
            return measure(source, **given, progress=progress), None
    except GenerationInterrupted as error:
        _report_interrupt(error.partial, given)
        raise
    except CompareError as error:
        if error.partial is None:
            raise
        return error.partial, error


def _report_interrupt(found: Comparison, given: Mapping[str, Any]) -> None:
    """Say on stderr what Ctrl-C left in the file for results."""
    n_saved = sum(bool(level.perplexity or level.decode_tps) for level in found.levels)
    n_levels = len(given.get("levels", [None])) * len(given["kv_types"]) * len(given["devices"])
    kept, output = "nothing was saved", given.get("results")
    if output is not None and n_saved:
        kept = (
            f"results for {n_saved} of {n_levels} levels are saved in {output}. To resume, run: "
            f"{resume_command()}"
        )
    print(f"localgen: interrupted; {kept}", file=sys.stderr)


def _print(result: Comparison, *, as_json: bool) -> None:
    if as_json:
        print(result.to_json())
    else:
        print_tables(result)
    sys.stdout.flush()


def _recommend(result: Comparison, limits: RecommendationLimits) -> None:
    is_asked = limits != RecommendationLimits()
    if not is_asked and all(level.kld_mean is None for level in result.levels):
        return
    names = result_names(machine_settings(result.settings))
    for number, part in by_machine(result).items():
        name = f"{names[number]}: " if number else ""
        sentence = part.recommend(**limits.given()).sentence
        _say(f"{name}{sentence}")


def _say(sentence: str) -> None:
    print(printable(sentence), file=sys.stderr)
