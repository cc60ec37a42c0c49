"""Tasks in compare(): what tiny models answer, the same as choose() and complete() say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localgen import CompareError, LocalModel
from localgen.compare import Comparison, compare
from localgen.compare.task_table import task_tables

QUESTIONS: list[dict[str, Any]] = [
    {"prompt": "hello", "choices": [" the cat", " hello", " a"], "answer": 0},
    {"prompt": "the cat hello", "choices": [" hello hello", " the"], "answer": " the"},
    {"prompt": "the", "answer": "no such text", "max_new_tokens": 3},
]


@pytest.fixture(scope="module")
def compared(tiny_bpe_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tasks")
    file = folder / "questions.jsonl"
    lines = [json.dumps(question) for question in QUESTIONS]
    file.write_text("\n".join([*lines, "not a question"]), "utf-8")
    options: dict[str, Any] = {
        "speed": False,
        "quality": False,
        "n_threads": 1,
        "tasks": [file],
        "results": folder / "results.json",
        "keep": folder,
    }
    with pytest.warns(UserWarning, match="^questions.jsonl"):
        return compare(tiny_bpe_path, ["F32", "Q8_0"], **options), options, tiny_bpe_path


def test_answers_are_those_of_choose_and_complete(compared: Any, tiny_bpe_path: Path) -> None:
    (task,) = compared[0]["F32"].tasks
    with LocalModel.from_pretrained(
        compared[1]["keep"] / compared[0]["F32"].file, n_ctx=512, n_threads=1, use_profile=False
    ) as model:
        for index, question in enumerate(QUESTIONS[:2]):
            best = model.choose(question["prompt"], question["choices"]).text
            assert question["choices"].index(best) == int(task.answers[index])
        text = model.complete("the", do_sample=False, max_new_tokens=3, stop_strings=["\n"]).text
        assert task.answers[2] == text.strip()
    right = [task.answers[0] == "0", task.answers[1] == "1", False]
    assert list(task.right) == right
    assert task.accuracy == sum(right) / 3


def test_levels_are_compared_with_the_reference(compared: Any) -> None:
    result = compared[0]
    reference, other = result["F32"].tasks[0], result["Q8_0"].tasks[0]
    assert reference.difference is None
    assert other.difference.difference == pytest.approx(other.accuracy - reference.accuracy)
    changed = [a != b for a, b in zip(reference.answers, other.answers, strict=True)]
    assert other.difference.flips == sum(changed) / 3
    ((heading, rows),) = task_tables(result)
    assert heading == "questions.jsonl: 3 questions"
    assert [row[0] for row in rows] == ["F32", "Q8_0"]
    assert rows[0][3] == "reference"


def test_answers_are_called_by_their_lines(compared: Any) -> None:
    assert compared[0]["Q8_0"].tasks[0].ids == ("1", "2", "3")


def test_remarks_are_notes_of_the_result(compared: Any) -> None:
    assert "questions.jsonl: line 4 is left out: it is not JSON" in compared[0].notes[0]
    assert compared[0].notes[1].startswith("questions.jsonl has 3 questions: fewer than 6")


def test_remarks_are_told_before_a_level_is_made(compared: Any, tmp_path: Path) -> None:
    """Warnings are errors here, so the first one ends the call."""
    _, options, source = compared
    with pytest.raises(UserWarning, match="line 4 is left out"):
        compare(source, ["Q8_0"], **{**options, "keep": tmp_path, "results": None})
    assert not [*tmp_path.iterdir()]


@pytest.mark.filterwarnings("ignore:questions.jsonl")
def test_results_can_be_read_and_resumed_and_belong_to_their_questions(compared: Any) -> None:
    result, options, source = compared
    assert Comparison.load(options["results"]).levels == result.levels
    again = compare(source, ["F32", "Q8_0"], **options, resume=True)
    assert again.levels == result.levels
    other = options["keep"] / "other" / "questions.jsonl"
    other.parent.mkdir(exist_ok=True)
    other.write_text(json.dumps(QUESTIONS[0]), "utf-8")
    with pytest.raises(CompareError, match="tasks_sha256"):
        compare(source, ["F32", "Q8_0"], **{**options, "tasks": [other]}, resume=True)
