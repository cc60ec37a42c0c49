"""``localgen eval``: tasks of lm-evaluation-harness on a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from localgen._util.atomic_write import atomic_write_bytes
from localgen.cli.eval_checks import check_eval, check_folder, raise_all
from localgen.cli.option_groups import with_options
from localgen.cli.options import MODEL_FORMS, LoadingOptions, MaxSequences, UseProfile
from localgen.config import ModelConfig
from localgen.evaluate import check_installed

_MODEL = ModelConfig()


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
    num_fewshot: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Put this many examples before each question.",
            show_default="what the task says",
        ),
    ] = None,
    limit: Annotated[
        float | None,
        typer.Option(
            help="Use this many documents of each task; below 1, this share of them.",
            show_default="all",
        ),
    ] = None,
    apply_chat_template: Annotated[
        bool, typer.Option("--apply-chat-template", help="Ask as a chat, by the model's template.")
    ] = False,
    system_instruction: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Put this system message first.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write results as JSON.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results in --output.")
    ] = False,
    log_samples: Annotated[
        bool,
        typer.Option("--log-samples", help="Include every question and answer in the results."),
    ] = False,
    loading: LoadingOptions,
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
    checks = check_eval(
        model=model,
        names=names,
        include_path=include_path,
        limit=limit,
        output=output,
        overwrite=overwrite,
        log_samples=log_samples,
    )
    raise_all([*checks, lambda: loading.config(max_sequences=max_sequences)])
    from lm_eval.utils import handle_non_serializable, make_table  # noqa: PLC0415  # seconds

    from localgen.evaluate.harness_model import LocalgenLM  # noqa: PLC0415
    from localgen.evaluate.run import evaluate, find_tasks  # noqa: PLC0415

    # Before the model is loaded: a name may be wrong.
    manager = find_tasks(names, include_path)
    with LocalgenLM(
        model or "", use_profile=profile, batch_size=max_sequences, **loading.given()
    ) as loaded:
        found = evaluate(
            loaded,
            names,
            task_manager=manager,
            num_fewshot=num_fewshot,
            limit=limit,
            apply_chat_template=apply_chat_template,
            system_instruction=system_instruction,
            log_samples=log_samples,
        )
    print(make_table(found))
    if found.get("groups"):
        print(make_table(found, "groups"))
    if output is not None:
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
