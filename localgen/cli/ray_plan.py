"""``localgen batch --plan``: say how long a job takes on a cluster, without running it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from localgen._util import system
from localgen._util.format import as_size, counted
from localgen._util.repeating import repeating
from localgen.cli.given_job import GivenJob
from localgen.cli.plan_options import PlanOptions
from localgen.cli.ray_progress import SECONDS_BETWEEN_LINES, RayProgress
from localgen.cli.tables import printable
from localgen.errors import JobError
from localgen.jobs.ray import check_installed
from localgen.jobs.ray.actor_memory import actor_memory
from localgen.jobs.ray.measuring import Measured, measure, n_rows_to_measure
from localgen.jobs.ray.plan import Arrangement, Plan, Work, arrangement, assumptions, predict
from localgen.jobs.ray.sample import Sample, lines_of_input, take_sample
from localgen.jobs.ray.session import LOCAL, joined
from localgen.jobs.ray.sizing import ActorMemory, Layout, Node, described, lay_out
from localgen.jobs.ray.speed_file import (
    Speeds,
    job_hash,
    keep_speeds,
    kept_speeds,
    read_speeds,
    write_speeds,
)
from localgen.jobs.rows import Row, read_rows
from localgen.llama.profile_key import profile_key
from localgen.profiles.store import this_machine

_LABEL_WIDTH = 10
_MINUTE, _HOUR = 60.0, 3600.0
_LEAST_IN_HOURS = 0.1 * _HOUR


def print_plan(
    job: GivenJob,
    options: PlanOptions,
    *,
    address: str | None,
    n_actors: int | None,
    cpus: float | None,
    quiet: bool,
) -> None:
    """Measure what is not known yet, and print the plan. quiet: without saying what it does.

    Raises ActorsDoNotFitError, and JobError for speeds of another job, model or machine.
    """
    nodes = options.known_nodes(address) or _live_nodes(str(address), quiet=quiet)
    needs = actor_memory(job.file, job.config)
    layout = lay_out(nodes, needs, n_actors=n_actors, cpus=cpus)
    lines = lines_of_input(job.source)
    sample = take_sample(lines, n_rows_to_measure(job.config.max_sequences))
    is_here = options.nodes is None and address in (None, LOCAL)
    machine, found, measured = _speed(job, options, sample, layout, is_here=is_here, quiet=quiet)
    bandwidth = options.bits_per_second()
    plan = predict(
        _work(job, sample, measured),
        layout,
        needs,
        measured.speed,
        factor=found.factor,
        bandwidth=bandwidth,
    )
    for label, text in _lines(job, nodes, needs, sample, measured, plan):
        print(f"{label:<{_LABEL_WIDTH}}{printable(text)}")
    print("assumed:")
    said = assumptions(plan, sample.n_rows, nodes, found, machine=machine, bandwidth=bandwidth)
    for text in said:
        print(f"- {printable(text)}")


def _live_nodes(address: str, *, quiet: bool) -> list[Node]:
    """Return the nodes of the Ray at an address, and say which one it is."""
    check_installed()
    from localgen.jobs.ray.cluster import address_joined, nodes_of_cluster  # noqa: PLC0415

    with joined(address):
        nodes = nodes_of_cluster()
        if not quiet:
            print(f"localgen: asked the Ray at {address_joined()}", file=sys.stderr)
        return nodes


# --- speeds ---


def _speed(
    job: GivenJob,
    options: PlanOptions,
    sample: Sample,
    layout: Layout,
    *,
    is_here: bool,
    quiet: bool,
) -> tuple[str, Arrangement, Measured]:
    """Return the speed of a node's actors, measured now if need be, and on which machine."""
    speeds = _known_speeds(job, options, sample)
    found = arrangement(layout, speeds.n_cpus)
    measured = speeds.of(found)
    _check_machine(speeds, options, None if measured else _named(found), is_here=is_here)
    if measured is None:
        if not quiet:
            n_rows = counted(len(sample.lines), "row")
            print(
                f"localgen: measuring {_named(found)}, with {n_rows} of the input", file=sys.stderr
            )
        measured = _measure(job, sample, found, layout, quiet=quiet)
        _keep(job, options, speeds.with_measured(measured))
    return speeds.machine, found, measured


def _known_speeds(job: GivenJob, options: PlanOptions, sample: Sample) -> Speeds:
    wanted = Speeds(
        model=job.header["model"]["fingerprint"],
        job=job_hash(job.header, sample.hash),
        machine=this_machine(),
        n_cpus=system.usable_cpus(),
    )
    if options.speeds is not None:
        return read_speeds(options.speeds, wanted) or wanted
    return kept_speeds(profile_key(job.file), wanted)


def _check_machine(
    speeds: Speeds, options: PlanOptions, missing: str | None, *, is_here: bool
) -> None:
    """Raise JobError for speeds of another machine that do not tell what is asked.

    missing: what has not been measured. is_here: whether the job is to run on this machine.
    """
    if speeds.machine == this_machine():
        return
    if is_here:
        raise JobError(
            f"the speeds in {options.speeds} were measured on another machine ({speeds.machine}), "
            f"and the plan is for this one ({this_machine()}). Describe a cluster of such machines "
            f"with --nodes, or leave out --speeds."
        )
    if missing:
        raise JobError(
            f"{options.speeds} has no speed of {missing}, which this plan needs, and was measured "
            f"on another machine ({speeds.machine}). Make the plan there with the same options, "
            f"and copy the file again."
        )


def _keep(job: GivenJob, options: PlanOptions, speeds: Speeds) -> None:
    if options.speeds is not None:
        write_speeds(options.speeds, speeds)
    else:
        keep_speeds(profile_key(job.file), speeds)


def _measure(
    job: GivenJob, sample: Sample, found: Arrangement, layout: Layout, *, quiet: bool
) -> Measured:
    lay_out(PlanOptions().this_machine(), actor_memory(job.file, job.config),
            n_actors=found.n_actors, cpus=system.usable_cpus() / found.n_actors)  # fmt: skip
    rows = [
        row
        for row in read_rows(sample.lines, job.defaults, int(job.header["seed"]), {})
        if isinstance(row, Row)
    ]
    options = {**job.load_options, "kv_budget": layout.kv_budget}
    progress = RayProgress()

    def tick() -> None:
        print(f"localgen: measuring: {progress.line()}", file=sys.stderr)

    with nullcontext() if quiet else repeating(SECONDS_BETWEEN_LINES, tick):
        return measure(Path(job.file.path), rows, found, options, job.reasoning, progress)


def _named(found: Arrangement) -> str:
    return f"{counted(found.n_actors, 'actor')} of {counted(found.n_threads, 'thread')}"


def _work(job: GivenJob, sample: Sample, measured: Measured) -> Work:
    return Work(
        n_rows=sample.n_rows,
        rows=measured.rows,
        longest=measured.longest,
        max_sequences=job.config.max_sequences,
        n_slots=1 if job.config.deterministic else job.config.max_sequences,
        n_ctx=job.config.n_ctx,
        model_bytes=sum(shard.size for shard in job.file.shards),
    )


# --- output ---


def _lines(
    job: GivenJob,
    nodes: Sequence[Node],
    needs: ActorMemory,
    sample: Sample,
    measured: Measured,
    plan: Plan,
) -> Iterator[tuple[str, str]]:
    work = _work(job, sample, measured)
    layout = plan.layout
    yield "cluster", described(nodes)
    yield "actors", f"{layout}, {counted(plan.n_together, 'row')} at a time in each"
    yield (
        "memory",
        f"{as_size(layout.memory)} an actor, {as_size(layout.kv_budget)} of it for the KV cache, "
        f"and {as_size(needs.shared)} of weights a node",
    )
    yield (
        "rows",
        f"{work.n_rows:,}, with {work.n_prompt:.1f} prompt tokens to compute and {work.n_new:.1f} "
        f"new ones each: the mean of {counted(len(work.rows), 'run')} of "
        f"{'all' if len(sample.lines) == sample.n_rows else f'{len(sample.lines):,}'} rows",
    )
    yield "speed", f"{plan.tokens_per_second:,.0f} new tokens per second"
    yield (
        "start",
        f"{_as_time(plan.download + plan.load)}: download {plan.download:.1f} s, load "
        f"{plan.load:.1f} s",
    )
    yield "generate", _as_time(plan.generate)
    hours = f" ({plan.seconds / _HOUR:.2f} hours)" if plan.seconds >= _LEAST_IN_HOURS else ""
    yield "in all", _as_time(plan.seconds) + hours


def _as_time(seconds: float) -> str:
    if seconds < 2 * _MINUTE:
        return f"{seconds:.1f} s"
    return f"{seconds / _MINUTE:.1f} min" if seconds < 2 * _HOUR else f"{seconds / _HOUR:.1f} h"
