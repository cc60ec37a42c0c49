"""Jobs that a node, Ray or the disk ends: the error is typed, names what failed, and is quiet."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ray: Any = pytest.importorskip("ray", reason="needs the extra localgen[ray]")

from localgen.config import GenerationConfig, ModelConfig  # noqa: E402
from localgen.errors import (  # noqa: E402
    InvalidGGUFError,
    JobError,
    LocalgenError,
    ModelNotFoundError,
    RayJobError,
)
from localgen.jobs.ray.actor import GenerateActor, JobActor  # noqa: E402
from localgen.jobs.ray.dataset import generate  # noqa: E402
from localgen.jobs.ray.job import Pool, RayJob, open_job  # noqa: E402
from localgen.jobs.ray.results import read_results  # noqa: E402
from localgen.jobs.ray.session import joined  # noqa: E402
from localgen.jobs.results import make_header  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with joined("local"):
        yield


@pytest.fixture
def job(tmp_path: Path, tiny_bpe_path: Path) -> Iterator[RayJob]:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"the cat {i}"}) + "\n" for i in range(200)))
    header = make_header(tiny_bpe_path, ModelConfig(), GenerationConfig())
    with open_job(str(source), str(tmp_path / "out"), header) as job:
        yield job


def run(job: RayJob, model: Path) -> list[Any]:
    pool = Pool(n_actors=1, num_cpus=0.5)
    loading = {"n_ctx": 64, "n_threads": 1, "max_sequences": 4}
    defaults = GenerationConfig(max_new_tokens=2, do_sample=False)
    return list(job.run(str(model), defaults, pool=pool, load_options=loading, reasoning=None))


def test_a_model_that_a_node_lacks_is_an_error_that_names_both(job: RayJob, tmp_path: Path) -> None:
    with pytest.raises(RayJobError) as found:
        run(job, tmp_path / "nowhere" / "x.gguf")
    assert found.value.node == os.uname().nodename
    assert str(found.value).startswith(f"node {found.value.node} cannot run the job: ")
    assert "x.gguf" in str(found.value)
    assert type(found.value.__cause__) is ModelNotFoundError


def test_a_file_that_is_no_model_there_is_an_error_that_names_it(
    job: RayJob, tmp_path: Path
) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF and no more")
    with pytest.raises(RayJobError) as found:
        run(job, tmp_path / "x.gguf")
    assert type(found.value.__cause__) in (InvalidGGUFError, JobError)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (KeyError("a bug"), "KeyError: 'a bug'"),
    ],
)
def test_an_error_in_the_middle_keeps_what_is_done(
    job: RayJob,
    tiny_bpe_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    message: str,
) -> None:
    class Failing(JobActor):
        async def _line(self, file: int, line: Any) -> Any:
            if line.number == 150:
                raise error
            return await super()._line(file, line)

    monkeypatch.setattr("localgen.jobs.ray.job.JobActor", Failing)
    with pytest.raises(RayJobError, match=message):
        run(job, tiny_bpe_path)
    done = list(read_results(tmp_path / "out"))
    assert len({each["line"] for each in done}) == len(done) < 200


def test_a_line_that_ray_cannot_hand_over_is_no_exception_of_ray(
    job: RayJob, tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise JobError("in.jsonl changed while it was read")

    monkeypatch.setattr("localgen.jobs.ray.job.pending_lines", broken)
    with pytest.raises(LocalgenError) as found:
        run(job, tiny_bpe_path)
    assert "in.jsonl changed while it was read" in str(found.value)
    assert "\n" not in str(found.value)


def test_a_second_session_is_refused() -> None:
    with pytest.raises(RayJobError, match="has joined a Ray already"), joined("local"):
        pass


def test_relative_paths_are_those_of_the_drivers_folder(
    tmp_path: Path, tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's processes run in the folder in which it was started: another input was read there."""
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text(json.dumps({"prompt": "the cat"}) + "\n")
    shutil.copy(tiny_bpe_path, "x.gguf")
    header = make_header(tiny_bpe_path, ModelConfig(), GenerationConfig())
    with open_job("in.jsonl", "out", header) as job:
        assert [each.error for each in run(job, Path("x.gguf"))] == [""]
    assert [each["line"] for each in read_results("out")] == [1]
    dataset = ray.data.from_items([{"prompt": "the cat"}])
    options: dict[str, Any] = {"max_new_tokens": 2, "load_options": {"n_ctx": 64}, "num_cpus": 0.5}
    (found,) = generate(dataset, "x.gguf", **options).take_all()
    assert found["error"] is None


def test_a_node_with_another_folder_of_results_is_named(job: RayJob, tiny_bpe_path: Path) -> None:
    """Its results were written where nobody looks for them."""
    job._folder = SimpleNamespace(write=lambda *_: None, names=lambda _: [])  # type: ignore[assignment]
    with pytest.raises(RayJobError, match=r"of this node is not the one of the command") as found:
        run(job, tiny_bpe_path)
    assert found.value.node == os.uname().nodename


def test_an_input_that_a_node_lacks_names_the_node(
    job: RayJob, tmp_path: Path, tiny_bpe_path: Path
) -> None:
    (tmp_path / "in.jsonl").unlink()
    with pytest.raises(RayJobError, match=r"Every node must reach the input") as found:
        run(job, tiny_bpe_path)
    assert found.value.node == os.uname().nodename
    assert "in.jsonl" in str(found.value)


def test_an_actor_refuses_a_relative_path(
    tmp_path: Path, tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny_bpe_path, "x.gguf")
    with pytest.raises(JobError, match=r"x.gguf is a relative path"):
        GenerateActor("x.gguf")
