"""Speeds are kept with what they hold for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from localgen.errors import JobError
from localgen.jobs.ray.measuring import Measured
from localgen.jobs.ray.plan import Arrangement
from localgen.jobs.ray.speed import Speed
from localgen.jobs.ray.speed_file import (
    Speeds,
    job_hash,
    keep_speeds,
    kept_speeds,
    read_speeds,
    write_speeds,
)
from localgen.profiles.store import FOLDER_VARIABLE, ProfileKey

WANTED = Speeds(model="m" * 64, job="j" * 32, machine="a processor, 2 CPUs", n_cpus=2)
MEASURED = Measured(
    speed=Speed(
        n_actors=4, n_threads=1, load=1.5, prompt_token=0.01, forward_pass=0.1, new_token=0.02
    ),
    rows=((20, 11), (7, 3)),
    longest=31,
)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "speeds.json"
    assert read_speeds(path, WANTED) is None
    write_speeds(path, WANTED.with_measured(MEASURED))
    found = read_speeds(path, replace(WANTED, machine="another", n_cpus=64))
    assert found == WANTED.with_measured(MEASURED)


def test_only_the_same_actors_and_threads_count() -> None:
    speeds = WANTED.with_measured(MEASURED)
    assert speeds.of(Arrangement(n_actors=4, n_threads=1, factor=8.0)) is MEASURED
    assert speeds.of(Arrangement(n_actors=4, n_threads=2, factor=1.0)) is None
    assert speeds.of(Arrangement(n_actors=2, n_threads=1, factor=1.0)) is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"model": "x"}, "those of another model"), ({"job": "x"}, "those of another job or input")],
)
def test_speeds_of_another_model_or_job_are_refused(
    tmp_path: Path, changed: dict[str, str], message: str
) -> None:
    path = tmp_path / "speeds.json"
    write_speeds(path, replace(WANTED, **changed))  # type: ignore[arg-type]
    with pytest.raises(JobError, match=message):
        read_speeds(path, WANTED)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"localgen_speeds": 2}', "{"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "speeds.json"
    path.write_text(text)
    with pytest.raises(JobError, match="is no file of speeds"):
        read_speeds(path, WANTED)


def test_this_machine_keeps_its_speeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "kept"))
    key = ProfileKey(model="/m.gguf", contents="1:2", machine="a", build="b")
    assert kept_speeds(key, WANTED) is WANTED
    keep_speeds(key, WANTED.with_measured(MEASURED))
    assert kept_speeds(key, WANTED) == WANTED.with_measured(MEASURED)
    assert kept_speeds(replace(key, machine="another"), WANTED) is WANTED
    assert kept_speeds(key, replace(WANTED, job="other")).measured == ()
    (file,) = (tmp_path / "kept").rglob("*.json")
    data = json.loads(file.read_text())
    data["data"]["measured"] = 7
    file.write_text(json.dumps(data))
    assert kept_speeds(key, WANTED) is WANTED


def test_the_seed_does_not_change_how_long_a_job_takes() -> None:
    header = {"model_options": {"n_ctx": 512}, "generation_options": {"seed": 1, "top_k": 5}}
    other = {"model_options": {"n_ctx": 512}, "generation_options": {"seed": 2, "top_k": 5}}
    longer = {"model_options": {"n_ctx": 512}, "generation_options": {"seed": 1, "top_k": 6}}
    assert job_hash(header, "s") == job_hash(other, "s")
    assert job_hash(header, "s") != job_hash(longer, "s")
    assert job_hash(header, "s") != job_hash(header, "t")
