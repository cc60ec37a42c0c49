"""Which names are files, the demonstration or lm-eval's tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localgen import evaluate
from localgen.compare.task_answers import FileTask
from localgen.compare.task_sources import find_tasks
from localgen.errors import CompareError

LINE = json.dumps({"prompt": "The sky is", "choices": [" blue", " green"], "answer": 0})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which has two files of questions."""
    (tmp_path / "own.jsonl").write_text(f"{LINE}\n{LINE}\n", "utf-8")
    (tmp_path / "plain").write_text(LINE, "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_and_the_demonstration_are_found_in_order(here: Path) -> None:
    found = find_tasks(["own.jsonl", "demo", "plain"])
    assert [task.name for task in found] == ["own.jsonl", "demo", "plain"]
    assert [found[0].n_questions, found[2].n_questions] == [2, 1]


def test_a_limit_keeps_the_first_questions(here: Path) -> None:
    own, demo = find_tasks([here / "own.jsonl", "demo"], limit=1)
    assert (own.n_questions, demo.n_questions) == (1, 1)
    assert isinstance(own, FileTask)
    assert own.file.questions[0].line == 1


def test_the_demonstration_has_only_good_lines_that_differ() -> None:
    (demo,) = find_tasks(["demo"])
    assert isinstance(demo, FileTask)
    questions = demo.file.questions
    assert not demo.file.problems
    assert len({each.prompt for each in questions}) == len(questions) == 60
    rights = [each.right for each in questions if each.choices]
    assert {rights.count(number) for number in range(4)} == {len(rights) // 4}


@pytest.mark.parametrize("name", ["missing.jsonl", "missing.CSV", "folder/missing"])
def test_what_looks_like_a_file_is_not_looked_for_elsewhere(here: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError):
        find_tasks([name])


def test_other_names_need_lm_eval(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "find_spec", lambda _: None)
    with pytest.raises(CompareError, match=r"'arc_easy', which is neither a file .* pip install"):
        find_tasks(["own.jsonl", "arc_easy"])


@pytest.mark.parametrize(
    ("name", "meant"), [("dmo", "'demo'"), ("Demo", "'demo'"), ("own.jsonk", "'own.jsonl'")]
)
def test_a_misspelt_name_has_a_suggestion(
    name: str, meant: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the demonstration and the files here, and with lm-eval of its tasks, too."""
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "find_spec", lambda _: None)
        with pytest.raises(CompareError, match=f"did you mean {meant}"):
            find_tasks([name])
    pytest.importorskip("lm_eval")
    with pytest.raises(ValueError, match=f"Did you mean {meant[1:-1]}"):
        find_tasks([name])


def test_names_must_be_a_list_and_differ(here: Path) -> None:
    with pytest.raises(TypeError, match="must be a list"):
        find_tasks("demo")
    with pytest.raises(ValueError, match="empty name"):
        find_tasks(["demo", " "])
    with pytest.raises(ValueError, match="different names, got demo, demo"):
        find_tasks(["demo", "demo"])
    with pytest.raises(ValueError, match="task_limit"):
        find_tasks(["demo"], limit=0)
    with pytest.raises(ValueError, match="none of its tasks"):
        find_tasks(["demo"], include_path=here)
