"""``localgen batch --ray``: the same job on a Ray cluster."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from localgen._util.format import counted
from localgen._util.repeating import repeating
from localgen.cli.given_job import GivenJob
from localgen.cli.ray_progress import SECONDS_BETWEEN_LINES, RayProgress
from localgen.errors import JobError
from localgen.jobs.ray import check_installed
from localgen.jobs.ray.actor_memory import actor_memory
from localgen.jobs.ray.session import LOCAL, SECONDS_TO_START, joined
from localgen.jobs.ray.sizing import Layout, Node, described, lay_out

if TYPE_CHECKING:
    from localgen.jobs.ray.job import LineEnded, Pool, RayJob


def run_on_ray(
    given: GivenJob,
    target: str,
    *,
    address: str,
    nodes: list[Node] | None,
    n_actors: int | None,
    actor_cpus: float | None,
    quiet: bool,
) -> int:
    """Run a job on Ray, report on stderr, and return how many lines failed.

    address: "local" starts a Ray on this machine, "auto" joins the one that runs here. nodes: those
    that the cluster has or will have, and the Ray that is started; None asks Ray. Raises JobError,
    and its ActorsDoNotFitError and RayJobError.
    """
    check_installed()
    from localgen.jobs.ray.cluster import address_joined, free_now, nodes_of_cluster  # noqa: PLC0415
    from localgen.jobs.ray.job import open_job  # noqa: PLC0415

    needs = actor_memory(given.file, given.config)

    def sized(nodes: list[Node]) -> Layout:
        return lay_out(nodes, needs, n_actors=n_actors, cpus=actor_cpus)

    layout = sized(nodes) if nodes else None  # refused before Ray starts
    report = _Report(quiet=quiet)
    with open_job(given.source, target, given.header) as job, report.summed_up(job):
        if job.n_done:
            report.say(f"{job.n_done} lines are already done")
        report.begin("starting Ray" if address == LOCAL else f"joining the Ray at {address}")
        node = nodes[0] if nodes else None
        with (
            repeating(SECONDS_BETWEEN_LINES, report.tick),
            joined(address, node=node, with_messages=_is_verbose()),
        ):
            found = nodes_of_cluster()
            if address != LOCAL:
                report.say(f"joined the Ray at {address_joined()}: {described(found)}")
            layout = layout or sized(found)
            report.say(str(layout))
            if n_waiting := layout.n_without(free_now()):
                report.say(
                    f"the cluster has no room for {counted(n_waiting, 'actor')} now; waiting for "
                    f"up to {SECONDS_TO_START // 60} minutes"
                )
            return report.of(job, _pool(layout), _work(given, layout))


def _work(given: GivenJob, layout: Layout) -> dict[str, Any]:
    return {
        "model": given.model,
        "defaults": given.defaults,
        "load_options": layout.load_options | given.load_options,
        "reasoning": given.reasoning,
        "split_special_tokens": given.split_special_tokens,
    }


def _is_verbose() -> bool:
    return logging.getLogger().isEnabledFor(logging.DEBUG)


def _pool(layout: Layout) -> Pool:
    from localgen.jobs.ray.job import Pool  # noqa: PLC0415

    return Pool(n_actors=layout.n_actors, num_cpus=layout.ray_cpus, memory=layout.memory)


class _Report:
    """Prints each step, lines that fail, and how far the job is; ``tick`` runs in a thread."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._progress = RayProgress()
        self._n_loaded: Callable[[], int | None] = int
        self._n_actors = 0

    def say(self, message: str) -> None:
        if not self._quiet:
            _say(message)

    def begin(self, step: str) -> None:
        """Say what happens now."""
        self._progress.begin_step(step)
        self.say(step)

    def of(self, job: RayJob, pool: Pool, work: dict[str, Any]) -> int:
        """Run a job and return how many lines failed."""
        self.begin("reading the input")
        for line in job.run(pool=pool, counted=lambda: self._counted(job, pool), **work):
            self._ended(line)
        return self._progress.n_failed

    @contextmanager
    def summed_up(self, job: RayJob) -> Iterator[None]:
        """Say at the end of the block what is saved."""
        try:
            yield
        except BaseException as error:
            with suppress(JobError):  # the folder cannot be read
                self._progress.n_done, self._progress.n_failed = job.n_saved()
            if self._progress.n_ended or not isinstance(error, Exception):  # else it fails again
                self.say(f"{self._progress.counts()}. Run the same command again to resume.")
            raise
        if job.n_pending:
            self.say(self._progress.summary())

    def _counted(self, job: RayJob, pool: Pool) -> None:
        if not job.n_pending:
            lines = counted(job.n_rows, "line")
            self.say(f"nothing to do: the input has {lines}, of which {job.n_done} are done")
            return
        self._progress.n_rows = job.n_pending
        self._n_actors = pool.for_rows(job.n_pending).most
        self._n_loaded = lambda: job.n_loaded
        if self._n_actors < pool.most:
            rows = counted(job.n_pending, "row")
            self.say(f"{rows}: starting {self._n_actors} of the {pool.most} actors")
        self.begin(f"{counted(self._n_actors, 'actor')} to load the model")

    def _ended(self, line: LineEnded) -> None:
        self._progress.add(line.worker, line.n_new, is_failed=bool(line.error))
        if line.error:
            _say(f"{line.file}, line {line.line}: {line.error}")

    def tick(self) -> None:
        """Say how far the job is."""
        if not self._progress.has_started and self._n_actors:
            self._note_loaded(self._n_loaded())
        self.say(self._progress.line())

    def _note_loaded(self, n_loaded: int | None) -> None:
        if n_loaded is not None and n_loaded >= self._n_actors:
            self._progress.start()
        elif n_loaded is not None:
            self._progress.step = (
                f"{n_loaded} of {counted(self._n_actors, 'actor')} have loaded the model"
            )


def _say(message: str) -> None:
    print(f"localgen: {message}", file=sys.stderr)
