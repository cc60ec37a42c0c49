"""Asks each variant the questions of tasks, and compares its answers with the reference's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from localgen._util.format import counted
from localgen.compare.level_result import TaskResult
from localgen.compare.levels import Variant
from localgen.compare.record import Record
from localgen.compare.settings import Settings
from localgen.compare.task_file import Question, TaskFile
from localgen.compare.task_metrics import accuracy, paired_difference
from localgen.config import GenerationConfig
from localgen.errors import LocalgenError
from localgen.generation.choice_tokens import ChoiceTokens, tokens_of
from localgen.llama.backend import LlamaBackend
from localgen.model import LocalModel
from localgen.text.tokenizer import Tokenizer

# The most tokens of a question with its answer; longer ones are left out, with a note.
_N_CTX = 4096


def measure_tasks(
    settings: Settings, record: Record, reference: Variant, variants: Sequence[Variant]
) -> None:
    """Answer the questions of ``settings.tasks`` with the reference and each variant, if not done
    yet; a variant that fails gets an error."""
    todo = [each for each in [reference, *variants] if not record[each].tasks]
    if not todo:
        return
    record.plan(len(todo) * len(settings.tasks))
    tasks: list[TaskFile] | None = None
    for variant in todo:
        try:
            with _model(variant, settings.n_threads) as model:
                if tasks is None:  # the vocabulary is the same for all variants
                    tasks = [_that_fit(record, task, model.tokenizer) for task in settings.tasks]
                found = tuple(_answered(record, variant, model, task) for task in tasks)
        except LocalgenError as error:
            record.fail(variant, error)
            continue
        if variant is not reference:
            pairs = zip(found, record[reference].tasks, strict=False)
            found = tuple(_compared(ours, theirs) for ours, theirs in pairs) or found
        record.set(variant, tasks=found)


def _model(variant: Variant, n_threads: int) -> LocalModel:
    config = variant.config(n_ctx=_N_CTX, n_threads=n_threads)
    return LocalModel(LlamaBackend(variant.path, config, adapts=False), config)


def _that_fit(record: Record, task: TaskFile, tokenizer: Tokenizer) -> TaskFile:
    """Return a task with the questions that can be asked; the others are noted."""
    for problem in task.problems:
        record.note(f"{task.name}: {problem}")
    kept = tuple(each for each in task.questions if _fits(each, tokenizer))
    if n_left_out := len(task.questions) - len(kept):
        record.note(
            f"{task.name}: {counted(n_left_out, 'question')} longer than {_N_CTX} tokens left out"
        )
    return dataclasses.replace(task, questions=kept)


def _fits(question: Question, tokenizer: Tokenizer) -> bool:
    texts = [question.prompt + choice for choice in question.choices or ("",)]
    n_new = 0 if question.choices else question.max_new_tokens
    return max(len(tokenizer.encode(text)) for text in texts) + n_new <= _N_CTX


def _answered(record: Record, variant: Variant, model: LocalModel, task: TaskFile) -> TaskResult:
    """Answer a task: all its choices in one call, and all its texts in another."""
    questions = task.questions
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
    for index, text in zip(written, texts, strict=True):
        answers[index] = questions[index].answer_in(text)
        right[index] = answers[index] in questions[index].answers
    record.step(f"{task.name} by {variant.label}")
    share, error = accuracy(right) if right else (0.0, 0.0)
    return TaskResult(
        name=task.name,
        accuracy=share,
        accuracy_se=error,
        accuracy_norm=sum(right_norm) / len(right_norm) if right_norm else None,
        answers=tuple(answers),
        right=tuple(right),
    )


def _choice_logprobs(model: LocalModel, questions: Sequence[Question]) -> list[list[float]]:
    """Return the log-probability of each choice of each question; shared beginnings of prompts are
    computed once."""
    tokens: list[ChoiceTokens] = [
        tokens_of(each.prompt, [*each.choices], model.tokenizer, split_special_tokens=False)
        for each in questions
    ]
    pairs = [
        (each.start.tolist(), continuation)
        for each in tokens
        for continuation in each.continuations
    ]
    scores = iter(model.score_continuations(pairs))
    return [[next(scores).logprob for _ in each.continuations] for each in tokens]


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


def _compared(ours: TaskResult, theirs: TaskResult) -> TaskResult:
    """Return a level's result with how it differs from the reference's."""
    return ours.compared_with(
        paired_difference(theirs.right, ours.right, theirs.answers, ours.answers)
    )
