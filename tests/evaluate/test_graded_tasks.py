"""Tasks of lm-eval as right and wrong answers, with local tasks and a fake model."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from localgen.errors import EvaluateError
from tests.fakes import fake_model

pytest.importorskip("lm_eval", reason="lm-eval is not installed")
datasets = pytest.importorskip("datasets", reason="lm-eval is not installed")

from localgen.evaluate.graded_tasks import load_tasks  # noqa: E402
from localgen.evaluate.harness_model import LocalgenLM  # noqa: E402
from localgen.evaluate.run import evaluate, find_tasks, task_names  # noqa: E402

TASKS = Path(__file__).parent / "tasks"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of local tasks that name their data."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda _: None)
    monkeypatch.setattr("lm_eval.evaluator.get_git_commit_hash", lambda: "")
    for path in TASKS.glob("*.yaml"):
        text = path.read_text("utf-8").replace("DATA", TASKS.as_posix())
        (tmp_path / path.name).write_text(text, "utf-8")
    return tmp_path


@pytest.mark.slow
def test_answers_are_what_lm_eval_itself_finds(folder: Path) -> None:
    (task,) = load_tasks(["colours"], include_path=folder)
    (found,) = task.answered_by(fake_model())
    expected = evaluate(
        LocalgenLM(fake_model()), ["colours"], include_path=folder, bootstrap_iters=0
    )
    samples = expected["samples"]["colours"]
    assert found.name == "colours"
    assert found.ids == tuple(str(sample["doc_id"]) for sample in samples)
    assert list(found.right) == [sample["acc"] == 1 for sample in samples]
    assert list(found.right_norm) == [sample["acc_norm"] == 1 for sample in samples]
    for text, sample in zip(found.texts, samples, strict=True):
        scores = [logprob for (logprob, _) in sample["filtered_resps"]]
        assert int(text) == scores.index(max(scores))


@pytest.mark.slow
def test_a_generated_answer_is_what_the_filter_finds(folder: Path) -> None:
    (task,) = load_tasks(["sums"], limit=2, include_path=folder)
    (found,) = task.answered_by(fake_model())
    assert (task.n_questions, len(found.texts), found.right) == (2, 2, (False, False))
    assert all(text == "[invalid]" or text.islower() for text in found.texts)
    assert not found.right_norm


@pytest.mark.slow
def test_the_digest_follows_the_questions(folder: Path) -> None:
    def digest(limit: int | None) -> str:
        (task,) = load_tasks(["colours"], limit=limit, include_path=folder)
        return task.sha256

    assert digest(2) == digest(2) != digest(3)
    assert digest(None) != digest(2)


def test_a_task_without_right_answers_is_refused_before_anything_runs(folder: Path) -> None:
    with pytest.raises(EvaluateError, match=r"prose measures .*needs acc or exact_match"):
        load_tasks(["prose"], include_path=folder)


def test_data_that_cannot_be_loaded_are_told_with_the_task(folder: Path) -> None:
    path = folder / "colours.yaml"
    path.write_text(path.read_text("utf-8").replace("colours.jsonl", "missing.jsonl"), "utf-8")
    with pytest.raises(EvaluateError, match="lm-eval cannot load colours: "):
        load_tasks(["colours"], include_path=folder)


def test_own_tasks_are_found_without_reading_lm_evals(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These are thousands of files."""
    asked = []
    index = find_tasks.__globals__["TaskManager"]

    def recorded(**options: object) -> object:
        asked.append(options.get("include_defaults", True))
        return index(**{**options, "include_defaults": False})

    monkeypatch.setattr("localgen.evaluate.run.TaskManager", recorded)
    find_tasks(["sums", "prose"], folder)
    assert asked == [False]
    with pytest.raises(ValueError, match=r"no task 'prosa'. Did you mean prose\?"):
        find_tasks(["sums", "prosa"], folder)
    assert asked == [False, False, True]
    assert task_names(["co*", "sum?"], folder) == ["colours", "sums"]


def test_unknown_tasks_are_told_with_the_files_that_cannot_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lm-eval skips them without a word: their tasks seemed to be missing."""
    own_only = functools.partial(
        find_tasks.__globals__["TaskManager"], include_path=str(folder), include_defaults=False
    )
    monkeypatch.setattr("localgen.evaluate.run.TaskManager", lambda **_: own_only())
    (folder / "birds.yaml").write_text("task: birds\nmetric_list: [\n", "utf-8")
    with pytest.raises(
        ValueError, match=r"no task 'birds'.*skips 1 file \(.*birds.yaml: it is not"
    ):
        find_tasks(["birds"], folder)
    assert find_tasks(["colours"], folder)


@pytest.mark.slow
def test_evaluate_names_the_task_that_fails(folder: Path) -> None:
    """A missing file was told without its task; code of a task failed with a traceback."""
    path = folder / "colours.yaml"
    text = path.read_text("utf-8")
    path.write_text(text.replace("colours.jsonl", "missing.jsonl"), "utf-8")
    with pytest.raises(EvaluateError, match=r"lm-eval cannot load colours: .*missing\.jsonl"):
        evaluate(LocalgenLM(fake_model()), ["colours"], include_path=folder)
    path.write_text(f"{text}\nprocess_results: !function nowhere.score\n", "utf-8")
    with pytest.raises(EvaluateError, match=r"lm-eval cannot load colours: ImportError"):
        evaluate(LocalgenLM(fake_model()), ["colours"], include_path=folder)
    (folder / "own.py").write_text(
        "def score(doc, results):\n    raise KeyError('gone')\n", "utf-8"
    )
    path.write_text(f"{text}\nprocess_results: !function own.score\n", "utf-8")
    with pytest.raises(EvaluateError, match=r"lm-eval fails at colours: KeyError: 'gone'"):
        evaluate(LocalgenLM(fake_model()), ["colours"], include_path=folder)
