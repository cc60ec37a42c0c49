"""``localgen batch --ray``: the same job on a Ray cluster."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from localgen._util.format import counted
from localgen.cli.given_job import GivenJob
from localgen.cli.ray_progress import RayProgress
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
    node = nodes[0] if nodes else None
    with open_job(given.source, target, given.header) as job:
        if not quiet and job.n_done:
            _say(f"{job.n_done} lines are already done")
        if not quiet:
            _say("starting Ray" if address == LOCAL else f"joining the Ray at {address}")
        with joined(address, node=node, with_messages=_is_verbose()):
            found = nodes_of_cluster()
            layout = layout or sized(found)
            if not quiet:
                if address != LOCAL:
                    _say(f"joined the Ray at {address_joined()}: {described(found)}")
                _say(str(layout))
                if n_waiting := layout.n_without(free_now()):
                    _say(
                        f"the cluster has no room for {counted(n_waiting, 'actor')} now; waiting "
                        f"for up to {SECONDS_TO_START // 60} minutes"
                    )
            work = {
                "model": given.model,
                "defaults": given.defaults,
                "load_options": layout.load_options | given.load_options,
                "reasoning": given.reasoning,
                "split_special_tokens": given.split_special_tokens,
            }
            return _Report(quiet=quiet).of(job, _pool(layout), work)


def _is_verbose() -> bool:
    return logging.getLogger().isEnabledFor(logging.DEBUG)


def _pool(layout: Layout) -> Pool:
    from localgen.jobs.ray.job import Pool  # noqa: PLC0415

    return Pool(n_actors=layout.n_actors, num_cpus=layout.ray_cpus, memory=layout.memory)


class _Report:
    """Prints lines that fail, and a line about the others now and then."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._progress = RayProgress()

    def of(self, job: RayJob, pool: Pool, work: dict[str, Any]) -> int:
        """Run a job and return how many lines failed."""
        try:
            for line in job.run(pool=pool, **work):
                self._progress.n_rows = job.n_rows - job.n_done
                self._ended(line)
        except Exception:
            self._quiet |= not self._progress.n_ended  # the same command would only fail again
            raise
        finally:
            if not self._quiet:
                more = " Run the same command again to resume." if sys.exc_info()[0] else ""
                _say(self._progress.summary() + (f".{more}" if more else ""))
        return self._progress.n_failed

    def _ended(self, line: LineEnded) -> None:
        self._progress.add(line.worker, line.n_new, is_failed=bool(line.error))
        if line.error:
            _say(f"{line.file}, line {line.line}: {line.error}")
        if not self._quiet and self._progress.is_due:
            _say(self._progress.line())


def _say(message: str) -> None:
    print(f"localgen: {message}", file=sys.stderr)
