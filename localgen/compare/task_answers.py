"""Asks a model the questions of a file; ``Task`` is what all kinds of tasks have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from localgen.compare.answer_patterns import found_answers
from localgen.compare.task_file import Question, TaskFile
from localgen.config import GenerationConfig
from localgen.evaluate.answers import Answers
from localgen.generation.choice_tokens import ChoiceTokens, tokens_of
from localgen.model import LocalModel
from localgen.text.tokenizer import Tokenizer


class Task(Protocol):
    """Questions whose answers are right or wrong: a ``FileTask``, or one of lm-eval's.

    sha256: it changes with the questions.
    """

    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    @property
    def n_questions(self) -> int: ...

    def answered_by(self, model: LocalModel) -> list[Answers]:
        """Return a model's answers. Raises LocalgenError if it fails."""
        ...


@dataclass(frozen=True, slots=True)
class FileTask:
    """The questions of a file: all their choices are scored in one call, and all texts generated
    in another."""

    file: TaskFile

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def sha256(self) -> str:
        return self.file.sha256

    @property
    def n_questions(self) -> int:
        return len(self.file.questions)

    def answered_by(self, model: LocalModel) -> list[Answers]:
        questions = self.file.questions
        answers = [""] * len(questions)
        right = [False] * len(questions)
        right_norm: list[bool] = []
        chosen = [index for index, each in enumerate(questions) if each.choices]
        logprobs = _choice_logprobs(model, [questions[index] for index in chosen])
        for index, of_choices in zip(chosen, logprobs, strict=True):
            question = questions[index]
            lengths = [len(choice.strip()) or len(choice) for choice in question.choices]
            best = int(np.argmax(of_choices))
            answers[index], right[index] = str(best), best == question.right
            right_norm.append(int(np.argmax(np.divide(of_choices, lengths))) == question.right)
        written = [index for index, each in enumerate(questions) if not each.choices]
        texts = _texts(model, [questions[index] for index in written])
        patterns = [questions[index].pattern for index in written]
        for index, text in zip(written, answers_in(texts, patterns), strict=True):
            answers[index] = text
            right[index] = answers[index] in questions[index].answers
        found = Answers(
            name=self.name,
            ids=tuple(str(each.line) for each in questions),
            texts=tuple(answers),
            right=tuple(right),
            right_norm=tuple(right_norm),
        )
        return [found]


def choice_tokens(question: Question, tokenizer: Tokenizer) -> ChoiceTokens:
    """Return the tokens of a prompt and its choices. Raises ValueError if two choices, or a choice
    and nothing, have the same tokens."""
    return tokens_of(question.prompt, [*question.choices], tokenizer, split_special_tokens=False)


def _choice_logprobs(model: LocalModel, questions: Sequence[Question]) -> list[list[float]]:
    """Return the log-probability of each choice of each question; shared beginnings of prompts are
    computed once."""
    tokens = [choice_tokens(each, model.tokenizer) for each in questions]
    pairs = [
        (each.start.tolist(), continuation)
        for each in tokens
        for continuation in each.continuations
    ]
    scores = iter(model.score_continuations(pairs))
    return [[next(scores).logprob for _ in each.continuations] for each in tokens]


def answers_in(texts: Sequence[str], patterns: Sequence[str | None]) -> list[str]:
    """Return the answer in each generated text: all of it, or what its pattern finds."""
    answers = [text.strip() for text in texts]
    searched = [number for number, pattern in enumerate(patterns) if pattern is not None]
    found = found_answers([(patterns[number] or "", texts[number]) for number in searched])
    for number, answer in zip(searched, found, strict=True):
        answers[number] = answer
    return answers


def _texts(model: LocalModel, questions: Sequence[Question]) -> list[str]:
    if not questions:
        return []
    configs = [
        GenerationConfig(
            do_sample=False, max_new_tokens=each.max_new_tokens, stop_strings=[each.stop]
        )
        for each in questions
    ]
    done = model.complete([each.prompt for each in questions], generation_config=configs)
    return [completion.text for completion in done]
