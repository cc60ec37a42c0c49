"""``localgen eval`` with the real lm-eval on a tiny model, and without lm-eval."""

from __future__ import annotations

import functools
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from localgen import evaluate
from localgen.cli.app import run_command

needs_lm_eval = pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-eval is not installed")

TASK = """task: animals
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
doc_to_choice: [" the cat", " hello"]
metric_list: [{metric: acc}]
"""


@pytest.fixture
def run(tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``run(*args)`` runs ``localgen eval TINY args…`` here, and returns its exit code."""

    def run(*args: object, model: object = tiny_bpe_path) -> int:
        monkeypatch.setattr(sys, "argv", ["localgen", "eval", *map(str, (model, *args))])
        return run_command()

    return run


@pytest.fixture
def list_tasks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``list_tasks(*args)`` runs ``localgen eval --list args…`` here, and returns its exit code."""

    def list_tasks(*args: object) -> int:
        monkeypatch.setattr(sys, "argv", ["localgen", "eval", "--list", *map(str, args)])
        return run_command()

    return list_tasks


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    datasets = pytest.importorskip("datasets", reason="lm-eval is not installed")
    tasks = pytest.importorskip("lm_eval.tasks", reason="lm-eval is not installed")
    # lm-eval's own tasks are thousands of files.
    own_only = functools.partial(tasks.TaskManager, include_defaults=False)
    monkeypatch.setattr("localgen.evaluate.run.TaskManager", own_only)
    # Describes the machine, with programs that take seconds.
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda _: None)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    data = tmp_path / "animals.jsonl"
    data.write_text('{"question": "hello", "answer": 0}\n{"question": "a", "answer": 1}\n', "utf-8")
    task = TASK.replace("DATA", data.as_posix())
    (tmp_path / "animals.yaml").write_text(task, "utf-8")
    return tmp_path


@needs_lm_eval
def test_a_table_is_printed_and_the_results_are_written(
    run: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "results.json"
    loading = ("--n-ctx", "256", "--n-threads", "1", "--max-sequences", "2")
    code = run("--tasks", "animals", "--include-path", folder, "-o", out, "--log-samples", *loading)
    assert code == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "animals" in line]
    found = json.loads(out.read_text("utf-8"))
    accuracy = found["results"]["animals"]["acc,none"]
    assert accuracy in (0.0, 0.5, 1.0)
    assert f"|{accuracy:5g}|" in line
    assert len(found["samples"]["animals"]) == 2


@needs_lm_eval
def test_names_are_checked_before_the_model_is_looked_for(
    run: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run("--tasks", "animals,birds", "--include-path", folder, model="org/missing:Q4_0")
    assert code == 2
    assert "no task 'birds'" in capsys.readouterr().err


def test_without_lm_eval_it_says_what_to_install(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate, "find_spec", lambda _: None)
    assert run("--tasks", "animals") == 1
    assert "pip install 'localgen[lm-eval]'" in capsys.readouterr().err


def test_all_mistakes_are_told_at_once_with_or_without_lm_eval(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate, "find_spec", lambda _: None)
    folder = tmp_path / "none"
    (tmp_path / "taken").touch()
    files = ("--include-path", folder, "-o", tmp_path / "taken" / "out.json")
    assert run("--limit", "2.5", *files, "--n-ctx", "0", model="missing.gguf") == 2
    told = capsys.readouterr().err
    assert "7 mistakes:" in told
    for part in (
        "missing.gguf",
        "give --tasks NAMES",
        f"{folder}: no such folder of tasks",
        "--limit must be a whole number of documents or, below 1, a share of them, got 2.5",
        "taken is not a folder",
        "pip install",
        "--n-ctx",
    ):
        assert part in told


def test_samples_without_a_file_for_them_are_refused(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--tasks", "animals", "--log-samples") == 2
    assert "add --output FILE" in capsys.readouterr().err


def test_earlier_results_are_replaced_only_on_request(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results.json"
    out.write_text("{}")
    assert run("--tasks", "animals", "-o", out, "--overwrite", "--include-path", tmp_path) != 0
    assert "results.json: holds something else than results" in capsys.readouterr().err
    out.write_text('{"results": {}}')
    assert run("--tasks", "animals", "-o", out, "--include-path", tmp_path) != 0
    assert "results.json: exists, and its results would be lost: --overwrite" in (
        capsys.readouterr().err
    )
    assert run("--tasks", "animals", "--overwrite") == 2
    assert "--overwrite needs --output" in capsys.readouterr().err


@needs_lm_eval
def test_names_of_tasks_are_listed(
    list_tasks: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list_tasks("--include-path", folder) == 0
    assert capsys.readouterr().out == "animals\n"
    assert list_tasks("--tasks", "b*", "--include-path", folder) == 2
    assert "no task has a name like b*" in capsys.readouterr().err


def test_a_list_takes_no_model(list_tasks: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert list_tasks("smollm2") == 2
    assert "--list runs nothing: leave out MODEL" in capsys.readouterr().err
