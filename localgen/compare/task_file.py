"""Files of questions → ``Question``s: JSON Lines, or CSV as MMLU has it. It asks nothing.

A line of JSON is {"prompt", "choices", "answer"} for a choice, whose answer is its text or its
number from 0; or {"prompt", "answer"} for a text to generate, with "answer" a text or a list of
those that are right. A row of CSV is a question, its choices and the letter of the right one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localgen._util.checks import check_int
from localgen._util.json_text import read_json
from localgen._util.suggestions import did_you_mean
from localgen._util.text_file import read_text
from localgen.compare.csv_records import BrokenLineError, read_records
from localgen.errors import CompareError

SUFFIXES = (".jsonl", ".json", ".csv")
# Of a row of CSV: a question, two choices and a letter.
_LEAST_FIELDS = 4
DEFAULT_STOP = "\n"
DEFAULT_NEW_TOKENS = 64
_KEYS = {"prompt", "choices", "answer", "stop", "max_new_tokens", "pattern"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question and what is right.

    line: its number in the file. prompt: what the model sees. choices: the texts that may follow;
    none for a text to generate. right: the index of the right choice; None without choices.
    answers: the texts that are right, without white space around them. stop, max_new_tokens: where
    a generated text ends. pattern: a regular expression that finds the answer in it: its first
    group, or all that it matches.
    """

    line: int = 0
    prompt: str
    choices: tuple[str, ...] = ()
    right: int | None = None
    answers: tuple[str, ...] = ()
    stop: str = DEFAULT_STOP
    max_new_tokens: int = DEFAULT_NEW_TOKENS
    pattern: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFile:
    """A file of questions.

    name: of the file. questions: of its good lines. problems: what is wrong with the others, with
    their numbers. sha256: of its text.
    """

    name: str
    sha256: str
    questions: tuple[Question, ...]
    problems: tuple[str, ...]


def read_tasks(path: Path) -> TaskFile:
    """Return the questions of a file, CSV if its name ends so, else JSON Lines.

    Raises CompareError for a file without a good line or that is not text, OSError.
    """
    try:
        text = read_text(path)
    except ValueError as error:
        raise CompareError(f"{path} cannot be a task: {error}") from None
    lines = _rows(text) if path.suffix.lower() == ".csv" else _objects(text)
    questions: list[Question] = []
    problems: list[str] = []
    for number, make in lines:
        try:
            questions.append(dataclasses.replace(make(), line=number))
        except (ValueError, TypeError) as error:
            problems.append(f"line {number} is left out: {error}")
    if not questions:
        first = problems[0] if problems else "it is empty"
        raise CompareError(f"{path} has no question: {first}")
    return TaskFile(
        name=path.name,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        questions=tuple(questions),
        problems=tuple(problems),
    )


Lines = Iterator[tuple[int, Callable[[], Question]]]


def _objects(text: str) -> Lines:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, lambda line=line: _from_json(line)  # type: ignore[misc]


def _rows(text: str) -> Lines:
    """Yield a maker for each row, with the number of its first line."""
    for number, row in read_records(text, _LEAST_FIELDS):
        yield number, lambda row=row: _from_row(row)  # type: ignore[misc]


def _from_row(row: list[str] | BrokenLineError) -> Question:
    """Return a question of MMLU's form, asked by the letters of its choices."""
    if isinstance(row, BrokenLineError):
        raise row
    if len(row) < _LEAST_FIELDS:
        separated = next((each for each in ";\t|" if row[0].count(each) >= _LEAST_FIELDS - 1), None)
        hint = f". Separate them by commas, not by {separated!r}" if separated else ""
        raise ValueError(f"it has {len(row)} fields, not a question, choices and a letter{hint}")
    question, *choices, answer = (field.strip() for field in row)
    letters = string.ascii_uppercase[: len(choices)]
    if len(choices) > len(letters):
        raise ValueError(f"it has {len(choices)} choices, more than the {len(letters)} letters")
    if not question or not all(choices):
        raise ValueError("its question or one of its choices is empty")
    if len(answer) != 1 or answer not in letters:
        raise ValueError(f"the answer must be one of {', '.join(letters)}, got {answer!r}")
    listed = "".join(f"{a}. {b}\n" for a, b in zip(letters, choices, strict=True))
    return Question(
        prompt=f"{question}\n{listed}Answer:",
        choices=tuple(f" {letter}" for letter in letters),
        right=letters.index(answer),
    )


def _from_json(line: str) -> Question:
    try:
        given = read_json(line)
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise TypeError(f"it must be an object, got {line!r:.40}")
    if unknown := sorted(given.keys() - _KEYS):
        hint = did_you_mean(unknown[0], sorted(_KEYS), n=1, shown=repr)
        raise ValueError(
            f"it has {unknown[0]!r}, which is none of {', '.join(sorted(_KEYS))}{hint}"
        )
    prompt = _text("prompt", given.get("prompt"))
    if "choices" in given:
        return _with_choices(prompt, given)
    return _with_text(prompt, given)


def _with_choices(prompt: str, given: dict[str, Any]) -> Question:
    choices = tuple(_texts("choices", given["choices"]))
    if len(choices) < 2 or len({*choices}) < len(choices):
        raise ValueError("choices must be two or more different texts")
    for name in ("stop", "max_new_tokens", "pattern"):
        if name in given:
            raise ValueError(f"{name} is for a text to generate, but there are choices")
    answer = given.get("answer")
    if isinstance(answer, str) and answer in choices:
        return Question(prompt=prompt, choices=choices, right=choices.index(answer))
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return Question(prompt=prompt, choices=choices, right=answer)
    raise ValueError(
        f"answer must be one of the choices, or its number from 0 to {len(choices) - 1}, got "
        f"{answer!r:.40}"
    )


def _with_text(prompt: str, given: dict[str, Any]) -> Question:
    answer = given.get("answer")
    answers = [answer] if isinstance(answer, str) else _texts("answer", answer)
    if not answers:
        raise ValueError("answer must be a text or a list of texts, got an empty list")
    pattern = given.get("pattern")
    if pattern is not None:
        _check_pattern(_text("pattern", pattern))
    return Question(
        prompt=prompt,
        answers=tuple(each.strip() for each in answers),
        stop=_text("stop", given.get("stop", DEFAULT_STOP)),
        max_new_tokens=check_int(
            "max_new_tokens", given.get("max_new_tokens", DEFAULT_NEW_TOKENS), 1
        ),
        pattern=pattern,
    )


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"pattern {pattern!r:.40} is no regular expression: {error}") from None


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{name} must be a text that is not empty, got {value!r:.40}")
    return value


def _texts(name: str, value: object) -> list[str]:
    if not isinstance(value, list):
        raise TypeError(f"{name} must be a list of texts, got {value!r:.40}")
    return [_text(name, each) for each in value]
