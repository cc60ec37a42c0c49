"""``localgen eval``: tasks of lm-evaluation-harness on a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from localgen._util.atomic_write import atomic_write_bytes
from localgen.cli.declared_flags import DeclaredOptions
from localgen.cli.eval_checks import check_eval, check_folder, raise_all
from localgen.cli.option_groups import with_options
from localgen.cli.options import MODEL_FORMS, ExactLoadingOptions, MaxSequences, UseProfile
from localgen.config import ModelConfig
from localgen.evaluate import check_installed
from localgen.evaluate.options import EvalOptions

_MODEL = ModelConfig()


class RunningOptions(DeclaredOptions, of=EvalOptions):
    """How tasks are run, as it was typed."""


@with_options
def eval_tasks(
    *,
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help=f"Evaluate this: {MODEL_FORMS}.")
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            "--tasks", metavar="NAMES", help="Run these tasks or groups, separated by commas."
        ),
    ] = None,
    list_tasks: Annotated[
        bool,
        typer.Option(
            "--list", help="Print the names of all tasks, or of those like --tasks 'arc_*'."
        ),
    ] = False,
    include_path: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also find tasks in the YAML files of DIR.")
    ] = None,
    running: RunningOptions,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write results as JSON.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results in --output.")
    ] = False,
    loading: ExactLoadingOptions,
    profile: UseProfile = True,
    max_sequences: MaxSequences = _MODEL.max_sequences,
) -> None:
    """Run tasks of lm-evaluation-harness and print their table.

    Needs the extra localgen[lm-eval]. Tasks that lm-eval brings fetch their data from the Hugging
    Face Hub; your own, in YAML files, can name local files.
    """
    names = [name for given in tasks or () for name in given.split(",") if name]
    if list_tasks:
        _print_names(model, names, include_path)
        return
    options = running.given()
    checks = check_eval(
        model=model,
        names=names,
        include_path=include_path,
        output=output,
        overwrite=overwrite,
        log_samples=options["log_samples"],
    )
    of_options = [
        lambda: EvalOptions(**options),
        lambda: loading.config(max_sequences=max_sequences),
    ]
    raise_all([*checks, *of_options])
    how = {"use_profile": profile, "batch_size": max_sequences, **loading.given()}
    found = _evaluated(model or "", names, include_path, how, options)
    _print(found)
    if output is not None:
        _write(found, output)


def _evaluated(
    model: str,
    names: Sequence[str],
    include_path: Path | None,
    how: dict[str, Any],
    options: dict[str, Any],
) -> dict[str, Any]:
    """Return the results of tasks. how: the model is loaded. options: of ``EvalOptions``."""
    from localgen.evaluate.harness_model import LocalgenLM  # noqa: PLC0415  # seconds
    from localgen.evaluate.run import evaluate, find_tasks  # noqa: PLC0415

    # Before the model is loaded: a name may be wrong.
    manager = find_tasks(names, include_path)
    with LocalgenLM(model, **how) as loaded:
        return evaluate(loaded, names, task_manager=manager, **options)


def _print(found: dict[str, Any]) -> None:
    from lm_eval.utils import make_table  # noqa: PLC0415  # seconds

    print(make_table(found))
    if found.get("groups"):
        print(make_table(found, "groups"))


def _write(found: dict[str, Any], output: Path) -> None:
    from lm_eval.utils import handle_non_serializable  # noqa: PLC0415  # seconds

    text = json.dumps(found, indent=2, ensure_ascii=False, default=handle_non_serializable)
    atomic_write_bytes(output, text.encode() + b"\n")


def _print_names(model: str | None, patterns: list[str], include_path: Path | None) -> None:
    """Print the names of tasks that match one of the patterns, or of all."""
    if model is not None:
        raise ValueError(f"--list runs nothing: leave out MODEL, got {model!r}")
    raise_all([lambda: check_folder(include_path), check_installed])
    from localgen.evaluate.run import task_names  # noqa: PLC0415  # seconds

    found = task_names(patterns, include_path)
    if not found:
        raise ValueError(f"no task has a name like {', '.join(patterns)}")
    print("\n".join(found))
