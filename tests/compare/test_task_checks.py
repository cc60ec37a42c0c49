"""Questions that cannot be asked are told by their lines, and so is what makes answers useless."""

from __future__ import annotations

from typing import Any

import pytest

from localgen.compare.task_answers import FileTask
from localgen.compare.task_checks import checked_by
from localgen.compare.task_file import Question, TaskFile
from localgen.errors import CompareError
from tests.fakes import fake_model

GOOD = {"prompt": "It is", "choices": (" red", " blue"), "right": 0}
MANY = [GOOD] * 6


def task(*questions: dict[str, Any], problems: tuple[str, ...] = ()) -> FileTask:
    lines = tuple(Question(line=line, **each) for line, each in enumerate(questions, 1))
    return FileTask(TaskFile(name="own.jsonl", sha256="", questions=lines, problems=problems))


def check(*questions: dict[str, Any], problems: tuple[str, ...] = ()) -> tuple[list[int], Any]:
    """Return the lines that are kept, and the remarks."""
    found, remarks = checked_by([task(*questions, problems=problems)], fake_model().tokenizer)
    (kept,) = found
    assert isinstance(kept, FileTask)
    return [each.line for each in kept.file.questions], remarks


def test_good_questions_are_kept_without_a_remark() -> None:
    assert check(*MANY) == ([1, 2, 3, 4, 5, 6], [])


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({**GOOD, "prompt": "x" * 4092}, "it has 4097 tokens with its answer, and at most 4096"),
        ({"prompt": "x" * 4092, "answers": ("y",), "max_new_tokens": 5}, "it has 4097 tokens"),
        ({**GOOD, "choices": (" red", " red")}, "have the same tokens|are equal"),
    ],
)
def test_what_cannot_be_asked_is_left_out_by_its_line(
    question: dict[str, Any], message: str
) -> None:
    kept, (remark,) = check(GOOD, question, *MANY)
    assert kept == [1, 3, 4, 5, 6, 7, 8]
    assert remark.startswith("own.jsonl: line 2 is left out: ")
    assert any(each in remark for each in message.split("|"))


def test_a_file_without_a_question_left_is_refused() -> None:
    with pytest.raises(CompareError, match="no question that can be asked: line 1 is left out"):
        check({**GOOD, "prompt": "x" * 5000})


def test_many_problems_are_counted() -> None:
    _, remarks = check(*MANY, problems=tuple(f"line {n} is left out: bad" for n in range(7, 30)))
    assert len(remarks) == 11
    assert remarks[0] == "own.jsonl: line 7 is left out: bad"
    assert remarks[-1] == "own.jsonl: 13 more lines left out"


def test_too_few_questions_are_remarked() -> None:
    _, (remark,) = check(*MANY[:5])
    assert remark.startswith("own.jsonl has 5 questions: fewer than 6 cannot tell levels apart")


def test_missing_and_needless_spaces_are_remarked_once_a_file() -> None:
    glued = {"prompt": "Answer:", "choices": ("Lima", "Quito"), "right": 0}
    spaced = {"prompt": "1 + 1 = ", "answers": ("2",)}
    _, remarks = check(*MANY, glued, spaced, glued)
    assert remarks[0].startswith("own.jsonl: line 7 and 1 more line have no space")
    assert "'Answer:Lima'" in remarks[0]
    assert remarks[1].startswith("own.jsonl: line 8 has a space at the end of the prompt")


@pytest.mark.parametrize(
    "question",
    [
        {"prompt": "Answer: ", "choices": ("Lima", "Quito"), "right": 0},
        {"prompt": "Answer:", "choices": ("ペルー", "チリ"), "right": 0},
        {"prompt": "It ends", "choices": (".", "!"), "right": 0},
    ],
)
def test_no_space_is_missing_where_none_belongs(question: dict[str, Any]) -> None:
    assert check(*MANY, question)[1] == []
