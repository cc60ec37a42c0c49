"""``localgen batch --ray``: the same job on a Ray cluster."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from localgen.jobs.ray import check_installed
from localgen.jobs.ray.sizing import ActorMemory, Layout, lay_out

if TYPE_CHECKING:
    from localgen.jobs.ray.job import LineEnded, Pool, RayJob

LOCAL = "local"
_SECONDS_BETWEEN_REPORTS = 10.0
_RESUME = " Run the same command again to resume."


def run_on_ray(
    source: str,
    target: str,
    header: dict[str, Any],
    *,
    address: str,
    needs: ActorMemory,
    n_actors: int | None,
    actor_cpus: float | None,
    quiet: bool,
    load_options: dict[str, Any],
    **work: Any,
) -> int:
    """Run a job on Ray, report on stderr, and return how many lines failed.

    address: "local" starts a Ray on this machine, "auto" joins the one that runs here. needs: of
    each actor. work: further arguments of ``RayJob.run``.
    Raises ActorsDoNotFitError.
    """
    check_installed()
    import ray  # noqa: PLC0415

    from localgen.jobs.ray.cluster import nodes_of_cluster  # noqa: PLC0415
    from localgen.jobs.ray.job import RayJob  # noqa: PLC0415

    job = RayJob(source, target, header)
    if not quiet and job.n_done:
        _say(f"{job.n_done} lines are already done")
    ray.init(
        address=None if address == LOCAL else address,
        include_dashboard=False,
        logging_level="ERROR",
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        layout = lay_out(nodes_of_cluster(), needs, n_actors=n_actors, cpus=actor_cpus)
        if not quiet:
            _say(str(layout))
        work["load_options"] = layout.load_options | load_options
        return _Report(quiet=quiet).of(job, _pool(layout), work)
    finally:
        ray.shutdown()


def _pool(layout: Layout) -> Pool:
    from localgen.jobs.ray.job import Pool  # noqa: PLC0415

    return Pool(n_actors=layout.n_actors, num_cpus=layout.ray_cpus, memory=layout.memory)


class _Report:
    """Counts lines and tokens, and prints a line about them now and then."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._n_failed = 0
        self._n_done = 0
        self._tokens: Counter[str] = Counter()
        self._started: float | None = None
        self._said_at = 0.0

    def of(self, job: RayJob, pool: Pool, work: dict[str, Any]) -> int:
        """Run a job and return how many lines failed."""
        try:
            job.run(pool=pool, report=self._ended, **work)
        finally:
            if not self._quiet:
                self._say_counts(
                    " Run the same command again to resume." if sys.exc_info()[0] else ""
                )
        return self._n_failed

    def _ended(self, line: LineEnded) -> None:
        now = time.monotonic()
        self._started = self._started or now
        self._tokens[line.actor] += line.n_new
        if line.error:
            self._n_failed += 1
            _say(f"{line.file}, line {line.line}: {line.error}")
        else:
            self._n_done += 1
        if not self._quiet and now - self._said_at > _SECONDS_BETWEEN_REPORTS:
            self._said_at = now
            self._say_counts("")

    def _say_counts(self, more: str) -> None:
        seconds = time.monotonic() - (self._started or time.monotonic())
        parts = [f"{self._n_done} done"]
        if self._n_failed:
            parts.append(f"{self._n_failed} failed")
        if seconds > 1:
            rates = ", ".join(
                f"{actor} {n / seconds:.1f}" for actor, n in sorted(self._tokens.items())
            )
            parts.append(f"{self._n_done / seconds:.1f} rows/s; tokens/s by actor: {rates}")
        _say(", ".join(parts) + (f".{more}" if more else ""))


def _say(message: str) -> None:
    print(f"localgen: {message}", file=sys.stderr)
