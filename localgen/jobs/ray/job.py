"""A job on Ray, from files to a folder of results: what is done stays done, whatever dies."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray
import ray.data

from localgen import hub
from localgen.config import GenerationConfig
from localgen.errors import JobError
from localgen.jobs.ray.actor import JobActor, Work
from localgen.jobs.ray.errors import own_errors
from localgen.jobs.ray.failures import check_failure, failed_lines, of_node
from localgen.jobs.ray.folder import MANIFEST, Folder, absolute
from localgen.jobs.ray.input_check import check_file
from localgen.jobs.ray.parts import N_ROWS, SUFFIX, as_json, read_index
from localgen.jobs.ray.pool import BATCH_SIZE, actor_pool, max_sequences_of, rows_per_block
from localgen.jobs.ray.source import check_folders, find_files, names_in, pending_lines
from localgen.jobs.results import FORMAT, Record, check_same
from localgen.jobs.rows import row_seed
from localgen.text.replies.reasoning import Reasoning


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The actors of a job: how many, or the fewest and the most; CPUs, GPUs and bytes of each."""

    n_actors: int | tuple[int, int] = 1
    num_cpus: float | None = None
    num_gpus: float | None = None
    memory: int | None = None

    @property
    def most(self) -> int:
        return self.n_actors[1] if isinstance(self.n_actors, tuple) else self.n_actors

    def for_rows(self, n_rows: int) -> Pool:
        """Return the pool without the actors that would have no row."""
        fewest, most = self.n_actors if isinstance(self.n_actors, tuple) else (self.n_actors,) * 2
        most = max(1, min(most, n_rows))
        return replace(self, n_actors=(min(fewest, most), most))


@dataclass(frozen=True, slots=True, kw_only=True)
class LineEnded:
    """A line that has a record now.

    error: why it failed, "" if it did not. worker: the actor's host and process.
    """

    file: str
    line: int
    n_new: int
    error: str
    worker: str


class RayJob:
    """The lines of an input and the folder of their results.

    header: as ``results.make_header`` makes it. n_done: lines that earlier runs have done.
    n_failed: those that failed, and run again. n_rows: all lines; 0 until they run.
    Raises JobError for an input that cannot be read, and for a folder of another job.
    """

    def __init__(self, source: str, target: str, header: Record) -> None:
        check_folders(source, target)
        # Ray's processes may run in another folder.
        self._source, self._target = absolute(source), absolute(target)
        self._files = find_files(self._source)
        self._folder = Folder.at(self._target)
        self._manifest = self._checked_manifest(header)
        self._index = read_index(self._folder)
        self.n_done = self._index.n_done
        self.n_failed = self._index.n_failed
        self.n_rows = 0
        self._run = ""

    @property
    def n_pending(self) -> int:
        """How many lines the run has to do, once they are counted."""
        return self.n_rows - self.n_done

    @property
    def n_loaded(self) -> int | None:
        """How many actors of the run have loaded the model; None where files cannot grow."""
        if not self._run or not self._folder.can_append:
            return None
        with contextlib.suppress(JobError):  # the folder cannot be listed now
            return sum(name.startswith(self._run) for name in self._folder.names(SUFFIX))
        return None

    def n_saved(self) -> tuple[int, int]:
        """Return how many lines this run has done, and how many failed, by what is written: actors
        write more than a run yields that is ended. Raises JobError."""
        if not self._run:
            return 0, 0
        index = read_index(self._folder, self._run)
        return index.n_done, index.n_failed

    def run(
        self,
        model: str,
        defaults: GenerationConfig,
        *,
        pool: Pool,
        load_options: Mapping[str, Any],
        reasoning: Reasoning | None,
        split_special_tokens: bool = False,
        counted: Callable[[], None] | None = None,
    ) -> Iterator[LineEnded]:
        """Run the lines that are not done on the Ray that ``ray.init()`` joined or started.

        Yields each line when its record is written. No more actors start than lines are left.
        counted: called when ``n_rows`` is known, before actors start.

        Raises JobError if a line that was done has changed, and RepeatedIdError, before anything
        runs; and RayJobError, which names the node, for what an actor raises, such as for a model
        that cannot be loaded there. What was done until then stays.
        """
        with own_errors():
            index_ref = ray.put(self._index)
            self.n_rows = self._count_rows(index_ref)
            manifest = as_json({**self._manifest, N_ROWS: self.n_rows})
            self._folder.write(MANIFEST, manifest)
            self._run = f"part-{self._next_run():04d}"
            if counted is not None:
                counted()
            if not self.n_pending:
                return
            work = Work(
                model=hub.absolute_name(model),
                fingerprint=self._manifest["model"]["fingerprint"],
                load_options=dict(load_options),
                defaults=defaults,
                reasoning=reasoning,
                split_special_tokens=split_special_tokens,
                output=self._target,
                manifest=manifest,
                run=self._run,
                seeds=self._seeds(),
            )
            for batch in _results(self._files, index_ref, work, pool, self.n_pending):
                for values in zip(*(batch[name] for name in _COLUMNS), strict=True):
                    file, line, n_new, error, worker = values
                    yield LineEnded(
                        file=self._files[int(file)],
                        line=int(line),
                        n_new=int(n_new),
                        error=str(error),
                        worker=str(worker),
                    )

    def _count_rows(self, index_ref: Any) -> int:
        """Return how many rows there are. Raises JobError and RepeatedIdError."""
        check = ray.remote(check_file)
        facts = ray.get([check.remote(n, file, index_ref) for n, file in enumerate(self._files)])
        for each in facts:
            if each.error is not None:
                raise each.error
        return sum(each.n_rows for each in facts)

    def _checked_manifest(self, header: Record) -> Record:
        """Return the manifest of the folder, or a new one."""
        files = names_in(self._source, self._files)
        new = {**header, "files": files}
        data = self._folder.read(MANIFEST)
        if data is None:
            if self._folder.names(SUFFIX):
                raise JobError(
                    f"{self._target} holds other files and no {MANIFEST}; choose another output "
                    f"folder"
                )
            return new
        old = _manifest(data, f"{self._target}/{MANIFEST}")
        check_same(old, new, self._target, "or choose another output folder.")
        if old.get("files") != files:
            raise JobError(
                f"the job in {self._target} read the files {old.get('files')}, and now there are "
                f"{files}. Restore them, or choose another output folder."
            )
        return old

    def _next_run(self) -> int:
        """Return the number of this run, above those of the parts that there are."""
        numbers = [name.split("-")[1] for name in self._folder.names(SUFFIX) if "-" in name]
        return max((int(each) for each in numbers if each.isdecimal()), default=0) + 1

    def _seeds(self) -> tuple[int, ...]:
        """Return the seed of each file's rows; with a single file it is the job's."""
        seed = int(self._manifest["seed"])
        if len(self._files) == 1:
            return (seed,)
        return tuple(row_seed(seed, name) for name in self._manifest["files"])


def _manifest(data: bytes, name: str) -> Record:
    found: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(data)
    if not isinstance(found, dict) or not _has_types(found):
        raise JobError(
            f"{name} is corrupt. Choose another output folder, or restore it: the results in the "
            f"folder cannot be resumed without it."
        )
    if found.get("localgen_batch") != FORMAT:
        raise JobError(
            f"{name} was written by another version of localgen. Choose another output folder."
        )
    return found


def _has_types(manifest: Record) -> bool:
    """Return whether the fields that are looked into have the types of a manifest's."""
    parts = ("model", "model_options", "generation_options")
    return type(manifest.get("seed")) is int and all(
        isinstance(manifest.get(part), dict) for part in parts
    )


@contextmanager
def open_job(source: str, target: str, header: Record) -> Iterator[RayJob]:
    """Open a job, whose folder no other job writes to meanwhile. Arguments as for ``RayJob``.

    Raises JobError, as ``RayJob`` does, and if another process has the folder.
    """
    check_folders(source, target)
    find_files(source)  # nothing is made for an input that is not there
    with Folder.at(target).locked():
        yield RayJob(source, target, header)


_COLUMNS = ("file", "line", "n_new", "error", "worker")


def _results(
    files: list[str], index_ref: Any, work: Work, pool: Pool, n_rows: int
) -> Iterator[Mapping[str, Any]]:
    """Yield what became of the lines, in batches, as they end. n_rows: how many."""
    pool = pool.for_rows(n_rows)

    def read(batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        for number in batch["file"]:
            try:
                yield from pending_lines(int(number), files[int(number)], ray.get(index_ref))
            except Exception as error:  # of a file that has changed since it was checked
                yield failed_lines(of_node(error), int(number))

    numbers = ray.data.from_items(
        [{"file": number} for number in range(len(files))], override_num_blocks=len(files)
    )
    lines = numbers.map_batches(read, batch_size=1)
    n_together = rows_per_block(n_rows, pool.most, max_sequences_of(work.load_options))
    blocks = lines.repartition(target_num_rows_per_block=n_together)
    strategy, remote_args = actor_pool(pool.n_actors, work.load_options)
    ended = blocks.map_batches(
        JobActor,
        batch_size=min(BATCH_SIZE, n_together),  # Ray joins smaller blocks to a batch
        batch_format="numpy",
        compute=strategy,
        fn_constructor_args=(work,),
        num_cpus=pool.num_cpus,
        num_gpus=pool.num_gpus,
        memory=pool.memory,
        **remote_args,
    )
    for batch in ended.iter_batches(batch_size=None, prefetch_batches=0):
        check_failure(batch)
        yield batch
