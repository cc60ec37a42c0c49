"""Files of questions: what a line may say, and that a bad one is told by its number."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from localgen.compare.task_file import Question, read_tasks
from localgen.errors import CompareError


def write(folder: Path, *lines: Any, name: str = "task.jsonl") -> Path:
    path = folder / name
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", "utf-8")
    return path


CHOICE = {"prompt": "The sky is", "choices": [" blue", " green"], "answer": 0}
TEXT = {"prompt": "1 + 1 =", "answer": [" 2", "two"], "max_new_tokens": 4, "pattern": r"(\d)"}


def test_lines_are_choices_or_texts(tmp_path: Path) -> None:
    found = read_tasks(write(tmp_path, CHOICE, "", TEXT, {**CHOICE, "answer": " green"}))
    assert (found.name, found.problems) == ("task.jsonl", ())
    first, second, third = found.questions
    assert first == Question(line=1, prompt="The sky is", choices=(" blue", " green"), right=0)
    assert (second.answers, second.max_new_tokens, second.stop) == (("2", "two"), 4, "\n")
    assert third.right == 1
    assert [each.line for each in found.questions] == [1, 3, 4]


def test_rows_of_mmlu_ask_for_a_letter(tmp_path: Path) -> None:
    row = '"What, of these, is a planet?",Mars,Moon,Sun,Pluto,A'
    (found,) = read_tasks(write(tmp_path, row, name="astronomy.csv")).questions
    assert found.prompt == (
        "What, of these, is a planet?\nA. Mars\nB. Moon\nC. Sun\nD. Pluto\nAnswer:"
    )
    assert (found.choices, found.right) == ((" A", " B", " C", " D"), 0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "it is not JSON"),
        ("[]", "it must be an object"),
        ({**CHOICE, "hint": 1}, "'hint', which is none of"),
        ({**CHOICE, "prompt": ""}, "prompt must be a text"),
        ({**CHOICE, "choices": [" a"]}, "two or more different texts"),
        ({**CHOICE, "choices": [" a", " a"]}, "two or more different texts"),
        ({**CHOICE, "answer": 2}, "its number from 0 to 1, got 2"),
        ({**CHOICE, "answer": True}, "its number from 0 to 1, got True"),
        ({**CHOICE, "stop": "."}, "stop is for a text to generate"),
        ({**TEXT, "answer": []}, "got an empty list"),
        ({**TEXT, "answer": None}, "answer must be a list of texts"),
        ({**TEXT, "max_new_tokens": 0}, "max_new_tokens"),
        ({**TEXT, "pattern": "("}, "is no regular expression"),
    ],
)
def test_a_bad_line_is_told_by_its_number_and_the_rest_is_kept(
    line: Any, message: str, tmp_path: Path
) -> None:
    found = read_tasks(write(tmp_path, CHOICE, line, TEXT))
    assert len(found.questions) == 2
    (problem,) = found.problems
    assert problem.startswith("line 2 is left out: ")
    assert message in problem


@pytest.mark.parametrize("row", ["a,b", "question,x,y,C", "question,x,y,"])
def test_a_bad_row_is_told_by_its_number(row: str, tmp_path: Path) -> None:
    found = read_tasks(write(tmp_path, "question,x,y,B", row, name="t.csv"))
    assert found.problems[0].startswith("line 2 is left out: ")


def test_a_file_without_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompareError, match=r"has no question: it is empty"):
        read_tasks(write(tmp_path, ""))
    with pytest.raises(CompareError, match=r"has no question: line 1 is left out"):
        read_tasks(write(tmp_path, "{"))


@pytest.mark.parametrize("pattern", ["a{99999999999999}", "(" * 20_000])
def test_a_pattern_too_large_to_compile_is_a_bad_line(tmp_path: Path, pattern: str) -> None:
    found = read_tasks(write(tmp_path, CHOICE, {**TEXT, "pattern": pattern}))
    (problem,) = found.problems
    assert problem.startswith("line 2 is left out: pattern")


def test_only_line_feeds_end_a_line_of_json(tmp_path: Path) -> None:
    line = json.dumps({**CHOICE, "prompt": "a\u2028b\x85c"}, ensure_ascii=False)
    found = read_tasks(write(tmp_path, line, CHOICE))
    assert [each.line for each in found.questions] == [1, 2]
    assert not found.problems


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("q;x;y;B", r"it has 1 fields, .* Separate them by commas, not by ';'"),
        ("q\tx\ty\tB", r"Separate them by commas, not by '\\t'"),
        (",".join(["q", *["x"] * 27, "A"]), "it has 27 choices, more than the 26 letters"),
        ("q,,y,B", "its question or one of its choices is empty"),
    ],
)
def test_a_bad_row_is_told_with_what_to_do(row: str, message: str, tmp_path: Path) -> None:
    """27 choices raised "zip() argument 2 is longer than argument 1"."""
    found = read_tasks(write(tmp_path, '"q",x,"a\nb",B', row, name="t.csv"))
    (problem,) = found.problems
    assert problem.startswith("line 3 is left out: ")  # the first row has two lines
    assert re.search(message, problem)


def test_the_rows_around_a_broken_line_are_kept(tmp_path: Path) -> None:
    """A quotation mark that is not closed swallowed all that follows, and the file was refused."""
    rows = ["q,a,b,A", 'q,"a,b,A', *["q,a,b,B"] * 9, 'q,"a"x,b,A', f'"{"x" * 200_000}",a,b,A']
    found = read_tasks(write(tmp_path, *rows, name="open.csv"))
    assert [each.line for each in found.questions] == [1, *range(3, 12)]
    unclosed, stray, long = found.problems
    assert unclosed.startswith("line 2 is left out: a quotation mark is not closed")
    assert stray.startswith("line 12 is left out: a quotation mark is not closed, or text follows")
    assert long.startswith("line 13 is left out: it follows a broken line")


def test_csv_with_a_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    path = tmp_path / "bom.csv"
    path.write_bytes("\ufeffq,a,b,A\r\nq,a,b,B\r\n".encode())
    assert [(each.prompt[0], each.right) for each in read_tasks(path).questions] == [
        ("q", 0),
        ("q", 1),
    ]


def test_csv_without_a_good_line_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, 'q,"a,b,A', name="open.csv")
    with pytest.raises(CompareError, match=r"has no question: line 1 is left out: a quotation"):
        read_tasks(path)
