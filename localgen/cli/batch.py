"""``localgen batch``: run a file of prompts and write a file of results."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import asdict
from typing import Annotated, Any

import typer

from localgen import hub
from localgen._util.progress import job_bar
from localgen.cli.batch_options import (
    check_are_files,
    check_options_on_ray,
    check_options_without_ray,
)
from localgen.cli.files import check_input
from localgen.cli.given_job import GivenJob
from localgen.cli.option_groups import with_options
from localgen.cli.options import (
    LOGPROBS_HELP,
    GenerationOptions,
    LoadingOptions,
    MaxSequences,
    ModelName,
    ReasoningText,
    SplitSpecialTokens,
    UseProfile,
    as_reasoning,
    is_given,
    model_or_default,
)
from localgen.cli.plan_options import PlanOptions
from localgen.cli.ray_batch import run_on_ray
from localgen.cli.ray_plan import print_plan
from localgen.config import GenerationConfig, ModelConfig, replace_options
from localgen.generation.resolve import check_same_beams
from localgen.gguf.gate import check_model
from localgen.gguf.metadata import sampling_defaults
from localgen.jobs.job import Job, check_not_same, open_lines
from localgen.jobs.results import Record, Results, make_header, open_results, other_versions
from localgen.model import LocalModel
from localgen.samplers import fitting_defaults

_MODEL = ModelConfig()


@with_options
def batch(
    *,
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="IN", help="Read one JSON object per line; - is stdin.")
    ],
    target: Annotated[
        str, typer.Argument(metavar="OUT", help="Write one result per line; - is stdout.")
    ],
    model: ModelName = None,
    reasoning: ReasoningText = None,
    sampling: GenerationOptions,
    logprobs: Annotated[int | None, typer.Option(help=f"{LOGPROBS_HELP}.")] = None,
    split_special_tokens: SplitSpecialTokens = False,
    loading: LoadingOptions,
    profile: UseProfile = True,
    max_sequences: MaxSequences = _MODEL.max_sequences,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic", help="Run prompts one at a time, bitwise the same in every run."
        ),
    ] = False,
    isolated: Annotated[
        bool,
        typer.Option(
            "--isolated",
            help="Run the model in a process of its own, whose crash costs one line; always so "
            "with --ray.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start over and discard what OUT holds.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Report only the lines that fail.")
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Run on Ray: local starts it here, auto joins the one on this machine; OUT is a "
            "folder, and IN may be Parquet, CSV or a folder, too.",
        ),
    ] = None,
    actors: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With --ray or --plan: use so many models at a time [default: one a node, or as "
            "many as fit with --actor-cpus].",
        ),
    ] = None,
    actor_cpus: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="With --ray or --plan: give each so many CPUs, and as many threads [default: all "
            "of its node, or what lets --actors fit].",
        ),
    ] = None,
    planning: PlanOptions,
) -> None:
    """Generate text for every prompt in IN and write each result to OUT as it finishes.

    A line of IN has a "prompt", "prompt_token_ids" or "messages", optionally an "id", and any of
    the options below under its Python name ("max_new_tokens", "stop_strings"), for that line only.
    With "messages" it may have "tools", "tool_choice" and "reasoning", too.
    Sampling options that neither sets default to the model file's own, unless --no-do-sample.
    If OUT has results of the same job, the job is resumed. The exit code is 1 if any line failed.
    """
    defaults = sampling.config(logprobs=logprobs)  # before anything is read: options may be wrong
    wanted = as_reasoning(reasoning)
    config = loading.config(max_sequences=max_sequences, deterministic=deterministic)
    check_same_beams([defaults], config.max_sequences)
    planning.check()
    is_on_ray = ray is not None or planning.plan
    if is_on_ray:
        check_options_on_ray(context)
    else:
        check_options_without_ray(context)
        check_input(source, "JSON Lines")
        check_are_files(source, target)
        check_not_same(source, target)
    name = model_or_default(model)
    path = hub.resolve(name)
    file = check_model(path)
    load_options = {"max_sequences": max_sequences, "deterministic": deterministic}
    load_options |= loading.given() | ({"device": "cpu"} if is_on_ray else {})
    defaults = _with_sampling(defaults, sampling_defaults(file.metadata), context)
    job = GivenJob(
        source=source,
        model=str(name),
        path=path,
        file=file,
        header=make_header(
            path, config, defaults, split_special_tokens=split_special_tokens, reasoning=wanted
        ),
        defaults=defaults,
        config=config,
        load_options=load_options,
        split_special_tokens=split_special_tokens,
        reasoning=wanted,
    )
    if planning.plan:
        print_plan(job, planning, address=ray, n_actors=actors, cpus=actor_cpus, quiet=quiet)
        return
    if ray is not None:
        n_failed = run_on_ray(
            job,
            target,
            address=ray,
            nodes=planning.known_nodes(ray),
            n_actors=actors,
            actor_cpus=actor_cpus,
            quiet=quiet,
        )
    else:
        how = {"use_profile": profile, "isolated": isolated}
        n_failed = _run_here(job, target, how, overwrite=overwrite, quiet=quiet)
    if n_failed:
        raise typer.Exit(1)


def _run_here(
    given: GivenJob, target: str, how: dict[str, Any], *, overwrite: bool, quiet: bool
) -> int:
    """Run a job in this process and return how many lines failed.

    how: further arguments of ``from_pretrained``.
    """
    with (
        open_lines(given.source) as lines,
        open_results(target, given.header, overwrite=overwrite) as results,
    ):
        job = Job(
            lines,
            results,
            given.defaults,
            split_special_tokens=given.split_special_tokens,
            reasoning=given.reasoning,
        )
        if not quiet:
            _report_resumed(job, results, given.header)
        # The header states the type of the KV cache, so no profile may change it.
        options = {**given.load_options, "kv_type": given.config.kv_type, **how}
        with LocalModel.from_pretrained(given.path, **options) as model:
            return _run(job, model, quiet=quiet, with_bar=not quiet and _can_show_bar(target))


def _with_sampling(
    config: GenerationConfig, of_file: dict[str, Any], context: typer.Context
) -> GenerationConfig:
    """Return ``config`` with the model file's sampling for options that were not typed.

    ``complete()`` does the same for options that it is not given.
    """
    if config.do_sample is False or (config.do_sample is None and config.num_beams > 1):
        return config
    of_file = {name: of_file[name] for name in of_file if not is_given(name, context)}
    return replace_options(config, fitting_defaults(of_file, asdict(config)))


def _run(job: Job, model: LocalModel, *, quiet: bool, with_bar: bool) -> int:
    """Run a job, report on stderr, and return how many lines failed."""
    n_done = n_failed = n_cut = 0
    bar = job_bar(job.n_rows - job.n_done) if with_bar else nullcontext(int)
    try:
        with bar as row_ended:

            def report(record: Record) -> None:
                nonlocal n_done, n_failed, n_cut
                if "error" in record:
                    n_failed += 1
                    _say(f"line {record['line']}: {record['error']['message']}")
                    row_ended(0)
                else:
                    n_done += 1
                    n_cut += record.get("is_valid") is False
                    row_ended(record["stats"]["n_new"])

            job.run(model, report)
    except Exception:
        quiet |= not (n_done or n_failed)  # the same command would only fail again
        raise
    finally:  # the bar has ended: it would be drawn again below the message
        n_left = job.n_rows - job.n_done - n_done - n_failed
        parts = [f"{n_done} done"]
        if n_cut:
            parts.append(f"{n_cut} of them cut before the constraint was satisfied")
        if n_failed:
            parts.append(f"{n_failed} failed")
        if n_left:
            without = " without --overwrite" if "--overwrite" in sys.argv else ""
            parts.append(f"{n_left} left. Run the same command again{without} to resume.")
        if not quiet and (job.n_done < job.n_rows or not job.n_done):  # else it has been said
            _say(", ".join(parts))
    return n_failed


def _report_resumed(job: Job, results: Results, header: Record) -> None:
    if job.n_done:
        _say(f"{job.n_done} of {job.n_rows} lines are already done")
        for difference in other_versions(results.header, header):
            _say(f"resuming with {difference}")


def _say(message: str) -> None:
    print(f"localgen: {message}", file=sys.stderr)


def _can_show_bar(target: str) -> bool:
    """Return whether stderr is a terminal that the results are not printed to as well."""
    return sys.stderr.isatty() and not (target == "-" and sys.stdout.isatty())
