"""Jobs on Ray: their speed, whether texts depend on the actors, and what crashes do to rows.

    python benchmarks/ray_jobs.py speed --rounds 3
    python benchmarks/ray_jobs.py plan --n-rows 200
    python benchmarks/ray_jobs.py texts kills poison plumbing prefixes

speed: ``localgen batch`` and the same job with ``--ray local`` and one actor with all CPUs, in
turns. plan: the time that ``--plan`` says for --plan-actors, and the job's. texts: the job on
1, 2 and 4 actors. kills: actors are killed at random, then the driver, and the job is run again.
poison: a row aborts its model's process. plumbing: many rows through an actor without a model.
prefixes: rows with long common beginnings, interleaved, with and without being put together. Needs
the extra localgen[ray].
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import common
import psutil
import ray
from common import Row
from ray_actors import N_NEW, POISON, PoisonedActor, StubActor, lines_in_order

from localgen import GenerationConfig, ModelConfig, hub
from localgen.jobs.ray import read_results
from localgen.jobs.ray.job import Pool, RayJob
from localgen.jobs.results import make_header

_NOTE = """\
speed: rows per hour from the first record to the last, so without the start; ratio: with Ray /
without. plan: seconds of generating, from the first file of results to the last record; ratio:
planned / measured. texts: of all rows, how many have the seed, and how many the text, that they
have on one actor. kills, poison: rows of the merged result by what became of them. plumbing: rows
without a model, and the resident memory of the driver in MB from the first row on.
prefixes: prompt tokens that were not computed, in percent."""
_SECONDS_BETWEEN_LOOKS = 0.05
_WORDS = ["river", "stone", "window", "letter", "winter", "garden", "market", "signal", "copper"]

Case = Callable[[Any, Path], Iterator[Row]]


# --- rows and commands ---


def write_rows(path: Path, rows: list[Row]) -> Path:
    """Write rows as a job's input."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sampled_rows(n_rows: int, n_new: int) -> list[Row]:
    """Return short prompts that differ, to sample from."""
    return [
        {"prompt": f"Notes on the {_WORDS[i % 9]} number {i}:", "temperature": 0.9,
         "max_new_tokens": n_new, "min_new_tokens": n_new}
        for i in range(n_rows)
    ]  # fmt: skip


def batch(options: Any, source: Path, target: Path, *more: str) -> list[str]:
    """Return the command of a job."""
    command = [sys.executable, "-m", "localgen", "batch", str(source), str(target)]
    return [*command, "--model", options.model, "--seed", "3", "--quiet", *more]


def on_ray(n_actors: int, n_cpus: float) -> list[str]:
    """Return the flags of a job on Ray."""
    return ["--ray", "local", "--actors", str(n_actors), "--actor-cpus", f"{n_cpus:g}"]


def n_records(target: Path) -> int:
    """Return how many records there are; the header of a file is none."""
    if target.is_dir():
        return sum(path.read_bytes().count(b"\n") for path in target.glob("part-*.jsonl"))
    return max(0, target.read_bytes().count(b"\n") - 1) if target.exists() else 0


def run(command: list[str]) -> None:
    """Run a command. Raises RuntimeError with its stderr if it failed."""
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stderr}")


def result_of(target: Path) -> dict[int, Row]:
    """Return the records of a job on Ray by line. Raises ValueError if a line has two."""
    records = list(read_results(target))
    found = {record["line"]: record for record in records}
    if len(found) != len(records):
        raise ValueError(f"{len(records)} records of {len(found)} lines in {target}")
    return found


# --- cases ---


def speed(options: Any, folder: Path) -> Iterator[Row]:
    """Compare the rows per hour with and without Ray."""
    given = sampled_rows(options.n_rows, options.new_tokens)
    for i, row in enumerate(given):  # unequal, so that slots become free one by one
        row["max_new_tokens"] = row["min_new_tokens"] = 1 + (7 * i) % (2 * options.new_tokens)
    source = write_rows(folder / "in.jsonl", given)
    cpus = common.usable_cpus()
    rates: dict[str, list[float]] = {"batch": [], "ray": []}
    for number in range(options.rounds):
        order = ("batch", "ray") if number % 2 else ("ray", "batch")
        for name in order:
            common.progress(f"speed, round {number + 1}: {name}")
            target = folder / f"{name}-{number}"
            flags = on_ray(1, cpus) if name == "ray" else []
            rates[name].append(rows_per_hour(batch(options, source, target, *flags), target))
    ratios = [of_ray / alone for of_ray, alone in zip(rates["ray"], rates["batch"], strict=True)]
    yield {
        "case": "speed",
        "n_rows": options.n_rows,
        **common.spread("batch_rows_per_hour", rates["batch"]),
        **common.spread("ray_rows_per_hour", rates["ray"]),
        **common.spread("ratio", ratios),
    }


def rows_per_hour(command: list[str], target: Path) -> float:
    """Run a job, and return its speed from its first records to its last."""
    seen: list[tuple[float, int]] = []
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            n = n_records(target)
            if n and (not seen or n > seen[-1][1]):
                seen.append((time.perf_counter(), n))
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    if process.returncode:
        raise RuntimeError(f"{command} failed")
    (began, first), (ended, last) = seen[0], seen[-1]
    return (last - first) / (ended - began) * 3600


def plan(options: Any, folder: Path) -> Iterator[Row]:
    """Compare the planned time of some numbers of actors to the time that the job takes."""
    given = sampled_rows(options.n_rows, options.new_tokens)
    for i, row in enumerate(given):
        row["max_new_tokens"] += (i * 7) % 17  # unequal, as the rows of most jobs
        del row["min_new_tokens"]
    source = write_rows(folder / "in.jsonl", given)
    for n_actors in options.plan_actors:
        common.progress(f"plan: {n_actors} actors")
        command = batch(options, source, folder / f"out-{n_actors}", "--actors", str(n_actors))
        told = subprocess.run([*command, "--plan"], check=True, capture_output=True, text=True)
        planned = float(re.findall(r"^generate +([0-9.,]+) s", told.stdout, re.M)[0])
        measured = seconds_of_generating([*command, "--ray", "local"], folder / f"out-{n_actors}")
        yield {
            "case": "plan",
            "n_actors": n_actors,
            "n_rows": options.n_rows,
            "planned_seconds": planned,
            "measured_seconds": measured,
            "ratio": planned / measured,
        }


def seconds_of_generating(command: list[str], target: Path) -> float:
    """Run a job, and return the time from its first file of results to its last record."""
    began = None
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            if began is None and any(target.glob("part-*.jsonl")):
                began = time.time()
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    if process.returncode or began is None:
        raise RuntimeError(f"{command} failed")
    return max(path.stat().st_mtime for path in target.glob("part-*.jsonl")) - began


def texts(options: Any, folder: Path) -> Iterator[Row]:
    """Compare the texts of 1, 2 and 4 actors."""
    source = write_rows(folder / "in.jsonl", sampled_rows(options.n_rows, options.new_tokens))
    for flags in (["--deterministic"], ["--flash-attention", "on"], []):
        first: dict[int, Row] | None = None
        for n_actors in (1, 2, 4):
            common.progress(f"texts: {n_actors} actors {flags}")
            target = folder / f"out-{n_actors}-{len(flags)}"
            cpus = common.usable_cpus() / n_actors
            run(batch(options, source, target, *on_ray(n_actors, cpus), *flags))
            found = result_of(target)
            first = first or found
            yield {
                "case": "texts",
                "flags": " ".join(flags),
                "n_actors": n_actors,
                "n_rows": len(found),
                "same_seeds": n_same(first, found, lambda record: record["stats"]["seed"]),
                "same_texts": n_same(first, found, lambda record: record["text"]),
            }


def n_same(one: dict[int, Row], other: dict[int, Row], value: Callable[[Row], object]) -> int:
    """Return how many lines have the same value."""
    return sum(value(one[line]) == value(other[line]) for line in one.keys() & other.keys())


def kills(options: Any, folder: Path) -> Iterator[Row]:
    """Kill an actor ten times, then the driver, and run the job again."""
    source = write_rows(folder / "in.jsonl", sampled_rows(options.n_rows, options.new_tokens))
    target = folder / "out"
    command = batch(options, source, target, *on_ray(2, common.usable_cpus() / 2))
    # Some rows are left for the run after the driver's end.
    at = sorted(random.Random(options.seed).sample(range(options.n_rows * 4 // 5), 10))
    n_killed = 0
    with subprocess.Popen(command) as driver:
        for n_rows in at:
            n_killed += kill_one(driver, target, n_rows, "JobActor")
            common.progress(f"kills: {n_killed} after {n_records(target)} records")
        while driver.poll() is None and n_records(target) < options.n_rows * 9 // 10:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        for each in psutil.Process(driver.pid).children(recursive=True):
            each.kill()
        driver.kill()
    n_before = n_records(target)
    run(command)
    found = result_of(target)
    yield {
        "case": "kills",
        "n_rows": options.n_rows,
        "killed_actors": n_killed,
        "records_before_the_driver_died": n_before,
        "records": n_records(target),
        "rows_once": len(found),
        "failed": sum("error" in record for record in found.values()),
    }


def kill_one(driver: subprocess.Popen[bytes], target: Path, n_rows: int, what: str) -> int:
    """Kill a process under the driver when there are so many records; return how many died."""
    while driver.poll() is None:
        if n_records(target) >= n_rows:
            for each in psutil.Process(driver.pid).children(recursive=True):
                try:
                    if what in " ".join(each.cmdline()):
                        each.kill()
                        return 1
                except psutil.Error:
                    continue
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    return 0


def poison(options: Any, folder: Path) -> Iterator[Row]:
    """Run rows of which one aborts its model's process."""
    n_rows = min(options.n_rows, 100)
    rows = [{"prompt_token_ids": [100 + i] * 3, "max_new_tokens": 8} for i in range(n_rows)]
    bad = n_rows // 2
    rows[bad]["prompt_token_ids"] = [POISON] * 2
    source = write_rows(folder / "in.jsonl", rows)
    with local_ray():
        ended = run_job(options, source, folder / "out", {"JobActor": PoisonedActor}, n_actors=2)
    found = result_of(folder / "out")
    failed = {line: record["error"] for line, record in found.items() if "error" in record}
    yield {
        "case": "poison",
        "n_rows": n_rows,
        "rows_ended": ended,
        "rows_once": len(found),
        "failed": len(failed),
        "failed_is_the_poisoned": list(failed) == [bad + 1],
        "error": " ".join(each["message"] for each in failed.values())[:160],
    }


def plumbing(options: Any, folder: Path) -> Iterator[Row]:
    """Send many rows through an actor without a model, and watch the driver's memory."""
    n_rows = options.plumbing_rows
    source = write_rows(folder / "in.jsonl", [{"prompt": f"Row {i}"} for i in range(n_rows)])
    with local_ray(), memory_of_this_process() as watched:
        started = time.perf_counter()
        replaced = {"JobActor": StubActor}
        ended = run_job(options, source, folder / "out", replaced, n_actors=1, watched=watched)
        seconds = time.perf_counter() - started
    began, first = watched.rows[0][0], watched.rows[0][1]
    stamps = [each for each in watched.rows if each[1] >= n_rows / 10]
    yield {
        "case": "plumbing",
        "n_rows": n_rows,
        "tokens_per_row": N_NEW,
        "rows_ended": ended,
        "rows_per_second": (ended - first) / (watched.rows[-1][0] - began),
        "rows_per_second_with_start": ended / seconds,
        "driver_mb_after_a_tenth": stamps[0][2],
        "driver_mb_most": max(each[2] for each in stamps),
        "driver_mb_at_the_end": stamps[-1][2],
        "driver_mb_each_second": " ".join(f"{mb:.0f}" for _, _, mb in watched.rows),
    }


def prefixes(options: Any, folder: Path) -> Iterator[Row]:
    """Interleave rows with long common beginnings, and put them together or not."""
    for n_prefixes, share in ((1, 0.5), (32, 1.0), (96, 1.0)):
        source = write_rows(folder / f"in-{n_prefixes}.jsonl", interleaved(n_prefixes, share, 288))
        for together in (False, True):
            common.progress(f"prefixes: {n_prefixes}, together: {together}")
            target = folder / f"out-{n_prefixes}-{together}"
            replaced = {} if together else {"pending_lines": lines_in_order}
            with local_ray():
                started = time.perf_counter()
                run_job(options, source, target, replaced, n_actors=2)
                seconds = time.perf_counter() - started
            stats = [record["stats"] for record in result_of(target).values()]
            n_prompt = sum(each["n_prompt"] for each in stats)
            yield {
                "case": "prefixes",
                "n_prefixes": n_prefixes,
                "share_of_rows": share,
                "together": together,
                "n_rows": len(stats),
                "prompt_tokens": n_prompt,
                "cached_percent": 100 * sum(each["n_cached"] for each in stats) / n_prompt,
                "seconds_with_start": seconds,
            }


def interleaved(n_prefixes: int, share: float, n_rows: int) -> list[Row]:
    """Return rows of which ``share`` begin with one of so many long texts, in turns."""
    draw = random.Random(1)

    def long_text() -> str:
        return " ".join(draw.choices(_WORDS, k=300))

    prefixes = [long_text() for _ in range(n_prefixes)]
    rows = []
    for i in range(n_rows):
        is_shared = (i * share) % 1 < share
        beginning = prefixes[i % n_prefixes] if is_shared else long_text()
        rows.append({"prompt": f"{beginning}. Question {i}:", "max_new_tokens": 4})
    return rows


# --- a job in this process ---


@contextmanager
def local_ray() -> Iterator[None]:
    """Run a Ray of this machine in the block."""
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path[1:]])
    ray.init(
        include_dashboard=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield
    finally:
        ray.shutdown()


def run_job(
    options: Any,
    source: Path,
    target: Path,
    replaced: Mapping[str, Any],
    *,
    n_actors: int,
    watched: Memory | None = None,
) -> int:
    """Run a job with other parts under these names; return how many rows ended."""
    defaults = GenerationConfig(do_sample=False)
    header = make_header(hub.resolve(options.model), ModelConfig(), defaults)
    job = RayJob(str(source), str(target), header)
    pool = Pool(n_actors=n_actors, num_cpus=(common.usable_cpus() - 1) / n_actors)
    load_options = {"n_threads": max(1, common.usable_cpus() // n_actors)}
    ended = 0
    with ExitStack() as stack:
        for name, part in replaced.items():
            stack.enter_context(mock.patch(f"localgen.jobs.ray.job.{name}", part))
        for _ in job.run(
            options.model, defaults, pool=pool, load_options=load_options, reasoning=None
        ):
            ended += 1
            if watched is not None:
                watched.n_ended = ended
    return ended


class Memory:
    """The memory of this process over time: (seconds, rows ended, MB), from the first row on."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, int, float]] = []
        self.n_ended = 0

    def look(self) -> None:
        if self.n_ended:
            mb = psutil.Process().memory_info().rss / 1e6
            self.rows.append((time.perf_counter(), self.n_ended, mb))


@contextmanager
def memory_of_this_process() -> Iterator[Memory]:
    """Look at the memory of this process each second in the block, and at its end."""
    found, ended = Memory(), threading.Event()

    def watch() -> None:
        while not ended.wait(1.0):
            found.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
        found.look()


CASES: dict[str, Case] = {
    "speed": speed,
    "plan": plan,
    "texts": texts,
    "kills": kills,
    "poison": poison,
    "plumbing": plumbing,
    "prefixes": prefixes,
}


def main() -> None:
    """Read the arguments, measure, print and write."""
    parser = common.argument_parser(__doc__, rounds=3, new_tokens=16)
    parser.add_argument("cases", nargs="+", choices=CASES)
    parser.add_argument("--n-rows", type=int, default=500, help="default: %(default)s")
    parser.add_argument("--plan-actors", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--plumbing-rows", type=int, default=100_000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the kills; default: %(default)s")
    options = parser.parse_args()
    for name in options.cases:
        with tempfile.TemporaryDirectory() as folder:
            rows = list(CASES[name](options, Path(folder)))
        common.report(
            f"ray_{name}", rows, options, threads=common.usable_cpus(), note=_NOTE,
            ray=ray.__version__,
        )  # fmt: skip


if __name__ == "__main__":
    main()
