"""Each option of ``localgen batch`` is honoured with ``--ray`` or refused with a reason."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from localgen.cli import batch as batch_module
from localgen.cli import ray_batch
from localgen.cli.app import app
from localgen.errors import JobError
from tests.cli.test_generate import localgen_command

# Each with a value that is not the default, and the others that it needs.
HONOURED: dict[str, list[str]] = {
    "model": ["-m", "{other}"],
    "reasoning": ["--reasoning", "off"],
    "max_new_tokens": ["--max-new-tokens", "7"],
    "max_time": ["--max-time", "9"],
    "stop": ["--stop", "x"],
    "seed": ["--seed", "5"],
    "negative_prompt": ["--negative-prompt", "x", "--guidance-scale", "2"],
    "json_schema": ["--json-schema", "{schema}"],
    "json_object": ["--json-object"],
    "regex": ["--regex", "[0-9]"],
    "choice": ["--choice", "yes"],
    "grammar": ["--grammar", "{grammar}"],
    "logprobs": ["--logprobs", "2"],
    "split_special_tokens": ["--split-special-tokens"],
    "n_ctx": ["--n-ctx", "64"],
    "n_threads": ["--n-threads", "1"],
    "kv_type": ["--kv-type", "f32"],
    "flash_attention": ["--flash-attention", "off"],
    "max_sequences": ["--max-sequences", "2"],
    "deterministic": ["--deterministic"],
    "quiet": ["-q"],
    "ray": ["--ray", "auto"],
    "actors": ["--actors", "3"],
    "actor_cpus": ["--actor-cpus", "0.5"],
    "nodes": ["--ray", "auto", "--nodes", "4"],
    "node_cpus": ["--ray", "auto", "--nodes", "4", "--node-cpus", "3"],
    "node_memory": ["--ray", "auto", "--nodes", "4", "--node-memory", "64GB"],
}
# Values that say what holds anyway.
WITHOUT_EFFECT = {
    "isolated": ["--isolated"],
    "profile": ["--no-profile"],
    "device": ["--device", "cpu"],
    "n_gpu_layers": ["--n-gpu-layers", "0"],
    "check_memory": ["--check-memory"],
}
REFUSED = {
    "draft": ["--draft", "{other}"],
    "profile": ["--profile"],
    "device": ["--device", "cuda"],
    "n_gpu_layers": ["--n-gpu-layers", "1"],
    "check_memory": ["--no-check-memory"],
    "overwrite": ["--overwrite"],
    "bandwidth": ["--bandwidth", "1Gbit"],
    "speeds": ["--speeds", "x.json"],
}
# They are no options of a job: its files, and another command.
OTHERS = {"source", "target", "plan"}


@pytest.fixture
def paths(tmp_path: Path, tiny_bpe_path: Path) -> dict[str, str]:
    other = tmp_path / "other.gguf"
    other.write_bytes(tiny_bpe_path.read_bytes())
    (tmp_path / "schema.json").write_text('{"type": "integer"}')
    (tmp_path / "grammar.lark").write_text('start: "a"')
    (tmp_path / "in.jsonl").write_text('{"prompt": "a"}\n')
    return {
        "model": str(tiny_bpe_path),
        "other": str(other),
        "schema": str(tmp_path / "schema.json"),
        "grammar": str(tmp_path / "grammar.lark"),
        "source": str(tmp_path / "in.jsonl"),
        "target": str(tmp_path / "out"),
    }


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What reaches ``run_on_ray``, which runs nothing."""
    found: list[Any] = []

    def run(given: Any, target: str, **options: Any) -> int:
        found.append((given, target, options))
        return 0

    monkeypatch.setattr(batch_module, "run_on_ray", run)
    return found


def command(paths: dict[str, str], *options: str) -> list[str]:
    given = [each.format(**paths) for each in options]
    named = [] if "-m" in given else ["-m", paths["model"]]
    on = [] if "--ray" in given else ["--ray", "local"]
    return ["batch", paths["source"], paths["target"], *named, *on, *given]


def asked(paths: dict[str, str], runs: list[Any], *options: str) -> Any:
    """Return what the job is with these options; the seed is drawn where none is set."""
    done = CliRunner().invoke(app, command(paths, *options))
    assert done.exit_code == 0, done.output
    given, target, others = runs.pop()
    header = {**given.header, "seed": None, "versions": None}
    return replace(given, header=header, file=given.file.path), target, others


def parameters() -> dict[str, Any]:
    group = typer.main.get_command(app)
    with group.make_context("localgen", ["batch"], resilient_parsing=True) as context:
        return {each.name: each for each in group.get_command(context, "batch").params}  # type: ignore[attr-defined]


def test_each_option_has_a_rule() -> None:
    from localgen.cli.sampling_flags import SAMPLING_FLAGS

    sampling = {flag.name for flag in SAMPLING_FLAGS}
    names = set(parameters()) - {"help"}
    assert names == {*HONOURED, *REFUSED, *WITHOUT_EFFECT, *OTHERS, *sampling}


@pytest.mark.parametrize("name", HONOURED)
def test_an_option_that_is_honoured_changes_the_job(
    name: str, paths: dict[str, str], runs: list[Any]
) -> None:
    options = HONOURED[name]
    # Options that this one needs must not be what makes the difference.
    without = options[:-2] if name.startswith("node") else []
    assert asked(paths, runs, *options) != asked(paths, runs, *without)


def test_options_of_sampling_are_in_the_defaults_of_the_rows(
    paths: dict[str, str], runs: list[Any]
) -> None:
    given, _, _ = asked(paths, runs, "--temperature", "0.3", "--top-k", "4", "--do-sample")
    defaults = given.defaults
    assert (defaults.temperature, defaults.top_k, defaults.do_sample) == (0.3, 4, True)


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_an_option_that_says_what_holds_anyway_is_accepted(
    name: str, paths: dict[str, str], runs: list[Any]
) -> None:
    assert asked(paths, runs, *WITHOUT_EFFECT[name])[0].load_options["device"] == "cpu"


@pytest.mark.parametrize("name", REFUSED)
def test_an_option_that_cannot_be_honoured_is_refused_by_name(
    name: str, paths: dict[str, str]
) -> None:
    done = localgen_command(*command(paths, *REFUSED[name]))
    assert done.returncode == 2
    assert REFUSED[name][0] in done.stderr
    assert "does not work with --ray" in done.stderr or "needs --plan" in done.stderr
    assert not Path(paths["target"]).exists()


@pytest.mark.parametrize("name", ["in.csv", "in.parquet", "in.jsonl.gz", "folder"])
def test_an_input_that_only_ray_reads_is_refused_once_without_it(
    name: str, paths: dict[str, str], tmp_path: Path
) -> None:
    """Each of its lines failed: it was not JSON."""
    source = tmp_path / name
    if source.suffix:
        source.write_text("prompt\na\nb\n")
    else:
        source.mkdir()
    done = localgen_command("batch", str(source), paths["target"], "-m", paths["model"])
    assert done.returncode == 2
    assert "Add --ray local to read it" in " ".join(done.stderr.split())
    assert not Path(paths["target"]).exists()


def test_a_folder_as_the_output_of_a_job_without_ray_is_refused(paths: dict[str, str]) -> None:
    done = localgen_command("batch", paths["source"], "results/", "-m", paths["model"])
    assert done.returncode == 2
    assert "OUT results/ is a folder" in " ".join(done.stderr.split())


@pytest.mark.parametrize(("argument", "files"), [("IN", ("-", "out")), ("OUT", ("{source}", "-"))])
def test_stdin_and_stdout_are_refused(
    argument: str, files: tuple[str, str], paths: dict[str, str]
) -> None:
    source, target = (each.format(**paths) for each in files)
    done = localgen_command("batch", source, target, "-m", paths["model"], "--ray", "local")
    assert done.returncode == 2
    assert f"{argument} - does not work with --ray" in done.stderr


def test_what_is_given_reaches_the_actors(
    paths: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options that reached the manifest only were accepted and ignored."""
    ray: Any = pytest.importorskip("ray", reason="needs the extra localgen[ray]")
    from localgen.jobs.ray import cluster, job
    from localgen.jobs.ray.sizing import Node

    works: list[Any] = []

    def results(_files: Any, _index: Any, work: Any, *_: Any) -> Iterator[Any]:
        works.append(work)
        return iter(())

    node = Node(cpus=2, memory=10**11)
    monkeypatch.setattr(ray_batch, "joined", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(cluster, "nodes_of_cluster", lambda: [node])
    monkeypatch.setattr(cluster, "free_now", lambda: node)
    monkeypatch.setattr(ray, "put", lambda _: None)
    monkeypatch.setattr(job.RayJob, "_count_rows", lambda *_: 1)
    monkeypatch.setattr(job, "_results", results)
    options = ["--split-special-tokens", "--reasoning", "off", "--n-ctx", "64", "--kv-type", "f32"]
    done = CliRunner().invoke(app, command(paths, *options, "--max-new-tokens", "3"))
    assert done.exit_code == 0, done.output
    (work,) = works
    assert work.split_special_tokens is True
    assert work.reasoning == "off"
    assert work.defaults.max_new_tokens == 3
    loaded = work.load_options
    assert (loaded["n_ctx"], loaded["kv_type"], loaded["device"]) == (64, "f32", "cpu")
    assert loaded["n_threads"] == 2


@pytest.mark.parametrize(("error", "ends"), [
    (KeyboardInterrupt(), True), (JobError("broken"), True), (JobError("broken"), False),
])  # fmt: skip
def test_a_job_that_is_ended_says_what_is_saved(
    paths: dict[str, str], monkeypatch: pytest.MonkeyPatch, error: BaseException, ends: bool
) -> None:
    """It counted what Ray had handed over, which is less than the actors write."""
    ray: Any = pytest.importorskip("ray", reason="needs the extra localgen[ray]")
    from localgen.jobs.ray import cluster, job
    from localgen.jobs.ray.folder import Folder
    from localgen.jobs.ray.parts import PartWriter
    from localgen.jobs.ray.sizing import Node

    saved: list[dict[str, Any]] = [
        {"line": n, "file": 0, "line_hash": f"{n:032x}", "text": "x"} for n in (1, 2)
    ]
    saved += [{"line": 3, "file": 0, "line_hash": f"{3:032x}", "error": {"message": "no"}}]

    def results(_files: Any, _index: Any, work: Any, *_: Any) -> Iterator[Any]:
        parts = PartWriter(Folder.at(work.output), f"{work.run}-x")
        for each in saved if ends else ():
            parts.append(each)
        parts.close()
        raise error
        yield

    node = Node(cpus=2, memory=10**11)
    monkeypatch.setattr(ray_batch, "joined", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(cluster, "nodes_of_cluster", lambda: [node])
    monkeypatch.setattr(cluster, "free_now", lambda: node)
    monkeypatch.setattr(ray, "put", lambda _: None)
    monkeypatch.setattr(job.RayJob, "_count_rows", lambda *_: 9)
    monkeypatch.setattr(job, "_results", results)
    done = CliRunner().invoke(app, command(paths))
    assert done.exit_code != 0
    message = "localgen: 2 of 9 done, 1 failed. Run the same command again to resume."
    assert (message in done.output) is ends
    assert ("same command again" in done.output) is ends
