"""``localgen tune``: find and remember the fastest settings of a model on this machine."""

from __future__ import annotations

import sys
from functools import partial
from typing import Annotated, Any

import typer

from localgen._util.format import counted
from localgen.cli.measuring import print_measured, spread_text
from localgen.cli.option_groups import with_options
from localgen.cli.options import MODEL_FORMS, LoadingOptions, is_given
from localgen.cli.tables import print_table, printable
from localgen.config import GenerationConfig
from localgen.jobs.job import open_lines
from localgen.jobs.rows import BadLine, read_lines, read_rows
from localgen.profiles.settings import named
from localgen.profiles.store import FOLDER_VARIABLE
from localgen.tuning import Trial, TuneResult, forget_profile
from localgen.tuning import tune as find
from localgen.tuning.drafts import LOOKUP
from localgen.tuning.results import NOT_REACHED
from localgen.tuning.run import SECONDS

_COLUMNS = ("setting", "value", "prefill", "decode", "speed", "")
_LABEL_WIDTH = 10


@with_options
def tune(
    context: typer.Context,
    *,
    source: Annotated[
        str, typer.Argument(metavar="MODEL", help=f"Tune this model: {MODEL_FORMS}.")
    ],
    seconds: Annotated[float, typer.Option(help="Take about this long.")] = SECONDS,
    allow_kv_types: Annotated[
        bool,
        typer.Option(
            "--allow-kv-types",
            help="Try other types of the KV cache, which change results by more than rounding.",
        ),
    ] = False,
    prompts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Try drafts from the prompt on these prompts, as batch reads them."
        ),
    ] = None,
    loading: LoadingOptions,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure, but do not save a profile.")
    ] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Remove the profile of MODEL, and measure nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find the fastest settings of MODEL on this machine, and save them as its profile.

    From then on, generate, chat, batch and LocalModel.from_pretrained() use them for what they are
    not given; --no-profile ignores them. Results stay the same but for rounding, unless
    --allow-kv-types. Measure on a machine that does nothing else. Ctrl-C prints what was found, and
    saves nothing.
    """
    if forget:
        _check_alone(context)
        n_removed = forget_profile(source)
        print(f"{counted(n_removed, 'profile')} removed")
        return
    run = partial(
        find,
        source,
        seconds=seconds,
        allow_kv_types=allow_kv_types,
        prompts=None if prompts is None else _read_prompts(prompts),
        save=not dry_run,
        **loading.given(),
    )
    result = print_measured("tuning", run, _print, as_json=as_json)
    if result.profile is None and not dry_run:
        print(f"localgen: {_why_not_saved(result)}", file=sys.stderr)
        raise typer.Exit(1)


def _why_not_saved(result: TuneResult) -> str:
    if result.found_nothing:
        return "nothing is saved: the time was over before anything was found; use more --seconds"
    return f"the profile cannot be saved: set {FOLDER_VARIABLE} to a folder that can be written"


def _check_alone(context: typer.Context) -> None:
    """Raise ValueError for options that --forget would ignore."""
    given = [
        each.opts[0]
        for each in context.command.params
        if each.name not in (None, "source", "forget") and is_given(each.name, context)
    ]
    if given:
        raise ValueError(f"--forget measures nothing; leave out {', '.join(given)}")


def _read_prompts(path: str) -> list[Any]:
    """Return the prompts of a file in the form that ``localgen batch`` reads. Raises ValueError."""
    with open_lines(path) as file:
        rows = list(read_rows(read_lines(file), GenerationConfig(), 0, {}))
    for row in rows:
        if isinstance(row, BadLine):
            raise ValueError(f"{path}, line {row.line.number}: {row.error}")
    return [row.prompt for row in rows if not isinstance(row, BadLine)]


def _print(result: TuneResult) -> None:
    machine = result.machine
    _say("model", result.file)
    _say("machine", str(machine["cpu"]))
    _say("measured", f"a prompt of {result.n_prompt} tokens, and {result.n_new} new ones")
    measured = [trial for trial in result.trials if trial.speeds]
    if measured:
        print("\ntokens per second, median (min-max), and speed against the fastest so far:")
        print_table(_COLUMNS, map(_row, measured), right=_COLUMNS[2:5], wrapped=_COLUMNS)
    for trial in result.trials:
        if trial.not_measured and trial.not_measured != NOT_REACHED:
            what = "not chosen" if trial.speeds else "not measured"
            print(f"{what}: {trial.setting} {trial.value}: {trial.not_measured}")
    missing = [trial.setting for trial in result.trials if trial.not_measured == NOT_REACHED]
    if missing:
        names = ", ".join(dict.fromkeys(missing))
        print(f"not finished, since the time was over: {names}; a larger --seconds measures more")
    found = named(result.settings)
    gain = f" ({result.speedup:.2f} times as fast)" if result.speedup > 1 else ""
    _say("fastest", f"{found}{gain}" if found else "the defaults")
    if result.n_prompts:
        _say("drafts", _drafts(result))
    if result.profile is not None:
        _say("profile", str(result.profile))


def _drafts(result: TuneResult) -> str:
    """Return what drafts gain on the user's prompts."""
    prompts = counted(result.n_prompts, "prompt")
    n_drafted = result.prompt_lookup_num_tokens
    for trial in result.trials:
        if trial.setting == LOOKUP and trial.value == n_drafted is not None and trial.ratio:
            return (
                f"{trial.ratio.median:.2f} times as fast on {prompts} with "
                f"--prompt-lookup-num-tokens {n_drafted}"
            )
    return f"not clearly faster on {prompts}"


def _say(label: str, text: str) -> None:
    print(f"{label:<{_LABEL_WIDTH}}{printable(text)}")


def _row(trial: Trial) -> tuple[str, ...]:
    return (
        trial.setting,
        "default" if trial.value is None else str(trial.value),
        spread_text(trial.prefill, "{:.0f}".format),
        spread_text(trial.decode, "{:.1f}".format),
        spread_text(trial.ratio, "{:.2f}".format),
        "chosen" if trial.is_chosen else "",
    )
