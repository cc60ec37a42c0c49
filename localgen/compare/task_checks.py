"""Finds questions that cannot be asked, and what makes answers mean little, before levels run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from localgen._util.format import counted
from localgen.compare.task_answers import FileTask, Task, choice_tokens
from localgen.compare.task_file import Question, TaskFile
from localgen.errors import CompareError
from localgen.llama.vocab_only import open_vocabulary
from localgen.text.tokenizer import Tokenizer

# The most tokens of a question with its answer.
N_CTX = 4096
# Two levels that differ in n answers, all to one side, have a p-value of 2 / 2**n: 0.03 from here.
LEAST_QUESTIONS = 6
# More problems of a file are counted.
_MOST_TOLD = 10


def checked(tasks: Sequence[Task], source: Path) -> tuple[tuple[Task, ...], list[str]]:
    """Return tasks without the questions that the model ``source`` cannot be asked, and remarks.

    Raises CompareError for a file of which no question is left.
    """
    if not any(isinstance(task, FileTask) for task in tasks):
        return tuple(tasks), _few(tasks)
    with open_vocabulary(source) as vocab:
        return checked_by(tasks, Tokenizer(vocab))


def checked_by(tasks: Sequence[Task], tokenizer: Tokenizer) -> tuple[tuple[Task, ...], list[str]]:
    """Return what ``checked`` does; ``tokenizer`` is the model's."""
    found = [
        _checked(task, tokenizer) if isinstance(task, FileTask) else (task, []) for task in tasks
    ]
    kept = tuple(task for task, _ in found)
    return kept, [remark for _, remarks in found for remark in remarks] + _few(kept)


def _few(tasks: Sequence[Task]) -> list[str]:
    return [
        f"{task.name} has {counted(task.n_questions, 'question')}: fewer than {LEAST_QUESTIONS} "
        f"cannot tell levels apart, whatever their answers are"
        for task in tasks
        if task.n_questions < LEAST_QUESTIONS
    ]


def _checked(task: FileTask, tokenizer: Tokenizer) -> tuple[Task, list[str]]:
    file = task.file
    problems, kept = [*file.problems], []
    for question in file.questions:
        problem = _problem(question, tokenizer)
        if problem is None:
            kept.append(question)
        else:
            problems.append(f"line {question.line} is left out: {problem}")
    if not kept:
        raise CompareError(f"{file.name} has no question that can be asked: {problems[0]}")
    told = [f"{file.name}: {problem}" for problem in problems[:_MOST_TOLD]]
    if n_more := len(problems) - len(told):
        told.append(f"{file.name}: {counted(n_more, 'more line')} left out")
    file = dataclasses.replace(file, questions=tuple(kept))
    return FileTask(file), [*told, *_about_spaces(file)]


def _problem(question: Question, tokenizer: Tokenizer) -> str | None:
    """Return why a question cannot be asked; None if it can."""
    try:
        if question.choices:
            tokens = choice_tokens(question, tokenizer)
            n_tokens = len(tokens.start) + max(map(len, tokens.continuations))
        else:
            n_tokens = len(tokenizer.encode(question.prompt)) + question.max_new_tokens
    except ValueError as error:
        return str(error)
    most = min(N_CTX, tokenizer.model_max_length or N_CTX)
    if n_tokens > most:
        return f"it has {n_tokens} tokens with its answer, and at most {most} are possible"
    return None


def _about_spaces(file: TaskFile) -> list[str]:
    """Return remarks on spaces that are probably missing or too many."""
    glued = [each for each in file.questions if _is_glued(each)]
    open_ended = [each for each in file.questions if not each.choices and each.prompt[-1] == " "]
    found = []
    if glued:
        example = glued[0].prompt[-10:] + glued[0].choices[0][:20]
        found.append(
            f"{file.name}: {_lines(glued)} no space between the prompt and the choices, as in "
            f"{example!r}. If a space belongs there, begin the choices with it"
        )
    if open_ended:
        found.append(
            f"{file.name}: {_lines(open_ended)} a space at the end of the prompt. The tokens of "
            f"words begin with their space, so models write better without it"
        )
    return found


def _is_glued(question: Question) -> bool:
    """Return whether each choice begins with a letter or digit right after the prompt, in a script
    that has spaces."""
    starts = [choice[0] for choice in question.choices]
    is_word = [start.isascii() and start.isalnum() for start in starts]
    return bool(starts) and all(is_word) and not question.prompt[-1].isspace()


def _lines(questions: Sequence[Question]) -> str:
    first = f"line {questions[0].line}"
    n_more = len(questions) - 1
    return f"{first} and {counted(n_more, 'more line')} have" if n_more else f"{first} has"
