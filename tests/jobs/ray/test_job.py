"""Jobs on a real Ray, with the command as users run it: kills of actors, workers and drivers."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

ray: Any = pytest.importorskip("ray", reason="needs the extra localgen[ray]")

from localgen.config import GenerationConfig  # noqa: E402
from localgen.errors import JobError  # noqa: E402
from localgen.jobs.ray.actor import ModelOfActor  # noqa: E402
from localgen.jobs.ray.columns import call_of  # noqa: E402
from localgen.jobs.ray.folder import Folder  # noqa: E402
from localgen.jobs.ray.job import Pool, RayJob  # noqa: E402
from localgen.jobs.ray.parts import read_records  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]
N_ROWS = 96
COMMAND = [sys.executable, "-m", "localgen", "batch"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("in") / "in.jsonl"
    rows = [
        {"prompt": f"Number {i} is", "max_new_tokens": 6, "temperature": 0.9}
        for i in range(1, N_ROWS + 1)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def on_ray(source: Path, target: Path, *options: str) -> list[str]:
    return [*COMMAND, str(source), str(target), "--ray", "local", "--seed", "3", *options]


def run(command: list[str], code: int = 0) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr


def texts(target: Path) -> dict[int, str]:
    """The text of each line, which has one record."""
    found = list(read_records(Folder.at(str(target))))
    assert len({record["line"] for record in found}) == len(found)
    return {record["line"]: record["text"] for record in found}


def tree(process: subprocess.Popen[Any], what: str) -> Iterator[psutil.Process]:
    """The running processes under one whose command has a word in it."""
    for each in psutil.Process(process.pid).children(recursive=True):
        try:
            if what in " ".join(each.cmdline()):
                yield each
        except psutil.Error:
            continue


def when(process: subprocess.Popen[Any], is_time: Callable[[], bool]) -> None:
    """Return as soon as ``is_time()``, or the process has ended."""
    while process.poll() is None and not is_time():
        try:
            process.wait(0.2)
        except subprocess.TimeoutExpired:
            continue


def n_written(target: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in target.glob("part-*.jsonl"))


def test_two_actors_give_the_texts_of_the_same_job_without_ray(
    source: Path, tmp_path: Path
) -> None:
    run(on_ray(source, tmp_path / "out", "--deterministic", "--actors", "2", "--actor-cpus", "0.5"))
    alone = tmp_path / "alone.jsonl"
    run([*COMMAND, str(source), str(alone), "--seed", "3", "--deterministic"])
    _, *records = map(json.loads, alone.read_text().splitlines())
    assert texts(tmp_path / "out") == {each["line"]: each["text"] for each in records}


@pytest.mark.parametrize(
    ("n_actors", "n_rows", "expected"),
    [(4, 10, (4, 4)), (4, 3, (3, 3)), ((2, 8), 5, (2, 5)), ((2, 8), 1, (1, 1)), (4, 0, (1, 1))],
)
def test_no_more_actors_start_than_there_are_rows(
    n_actors: int | tuple[int, int], n_rows: int, expected: tuple[int, int]
) -> None:
    assert Pool(n_actors=n_actors).for_rows(n_rows).n_actors == expected


def test_a_small_job_gives_all_actors_rows_and_says_what_it_does(tmp_path: Path) -> None:
    few = tmp_path / "few.jsonl"
    # So long that the first actor is at work while the others get theirs.
    rows = [{"prompt": f"Number {i} is", "min_new_tokens": 64} for i in range(10)]
    few.write_text("".join(json.dumps({**row, "max_new_tokens": 64}) + "\n" for row in rows))
    target = tmp_path / "out"
    said = run(on_ray(few, target, "--actors", "2"))
    parts = [part.read_bytes() for part in target.glob("part-*.jsonl")]
    assert len(parts) == 2
    assert all(parts)
    steps = ["starting Ray", "reading the input", "2 actors to load the model", "10 of 10 done"]
    assert sorted(steps, key=said.index) == steps
    again = run(on_ray(few, target, "--actors", "2"))
    assert again.endswith("nothing to do: the input has 10 lines, of which 10 are done\n")
    assert len(list(target.glob("part-*.jsonl"))) == 2


def test_kills_of_actors_workers_and_the_driver_lose_and_repeat_no_row(
    source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    command = on_ray(source, target, "--max-sequences", "4")
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as driver:
        for n_rows, what in ((8, "JobActor"), (24, "localgen.worker"), (40, "JobActor")):
            when(driver, lambda n=n_rows: n_written(target) >= n)  # type: ignore[misc]
            for each in tree(driver, what):
                each.kill()
        when(driver, lambda: n_written(target) >= 56)
        for each in [*psutil.Process(driver.pid).children(recursive=True)]:
            each.kill()
        driver.kill()
    n_before = n_written(target)
    assert 56 <= n_before < N_ROWS
    said = run(command)
    assert sorted(texts(target)) == list(range(1, N_ROWS + 1))
    assert "lines are already done" in said
    changed = tmp_path / source.name
    changed.write_text(source.read_text().replace("Number 5 ", "Number 500 "))
    said = run([*command[:4], str(changed), *command[5:]], 1)
    assert f"line 5 of {changed} has changed" in said


def test_ids_that_repeat_are_refused_before_anything_runs(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    rows = [{"id": each, "prompt": "x"} for each in ("a", "b", "a")]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = run(on_ray(source, tmp_path / "out"), 1)
    assert f"the id 'a' of line 3 of {source} is already used by line 1" in said
    assert n_written(tmp_path / "out") == 0


def test_a_job_is_not_resumed_from_another_jobs_folder(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "notes.jsonl").write_text("{}\n")
    assert "holds other files" in run(on_ray(source, target), 1)


@pytest.mark.parametrize("part", ["seed", "model", "model_options", "generation_options"])
def test_a_manifest_with_values_of_other_types_is_corrupt(
    source: Path, tmp_path: Path, part: str
) -> None:
    parts: dict[str, Any] = {"seed": 3, "model": {}, "model_options": {}, "generation_options": {}}
    (tmp_path / "manifest.json").write_text(json.dumps({**parts, part: "x"}))
    with pytest.raises(JobError, match=r"manifest.json is corrupt"):
        RayJob(str(source), str(tmp_path), {})


def abort_at_poison(tokens: Any, logits: Any) -> Any:
    if 13 in tokens:
        os.abort()
    return logits


def test_a_row_that_kills_its_process_twice_fails_and_the_others_are_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = ModelOfActor("smollm2", None, {"max_sequences": 8})
    complete = model._model.acomplete

    def poisoned(prompts: Any, **options: Any) -> Any:
        return complete(prompts, logits_processor=abort_at_poison, **options)

    monkeypatch.setattr(model._model, "acomplete", poisoned)
    prompts: list[list[int]] = [[100 + i] * 3 for i in range(12)]
    prompts[5] = [13, 13]
    rows = [
        call_of({"prompt_token_ids": ids}, GenerationConfig(max_new_tokens=4), 0) for ids in prompts
    ]

    async def run_all() -> list[Any]:
        return await asyncio.gather(*map(model.run, rows), return_exceptions=True)

    found = asyncio.run(run_all())
    model._model.close()
    assert [isinstance(each, Exception) for each in found] == [i == 5 for i in range(12)]
    assert "is refused" in str(found[5])
