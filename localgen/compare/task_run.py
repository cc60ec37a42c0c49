"""Asks each variant the questions of tasks, and compares its answers with the reference's."""

from __future__ import annotations

from collections.abc import Sequence

from localgen.compare.level_result import TaskResult
from localgen.compare.levels import Variant
from localgen.compare.record import Record
from localgen.compare.settings import Settings
from localgen.compare.task_checks import N_CTX
from localgen.compare.task_metrics import accuracy, paired_difference
from localgen.errors import LocalgenError
from localgen.evaluate.answers import Answers
from localgen.llama.backend import LlamaBackend
from localgen.model import LocalModel


def measure_tasks(
    settings: Settings, record: Record, reference: Variant, variants: Sequence[Variant]
) -> None:
    """Answer the questions of ``settings.tasks`` with the reference and each variant, if not done
    yet; a variant that fails gets an error."""
    todo = [each for each in [reference, *variants] if not record[each].tasks]
    record.plan(len(todo) * len(settings.tasks))
    for variant in todo:
        try:
            found = _results(settings, record, variant)
        except LocalgenError as error:
            record.fail(variant, error)
            continue
        if variant is not reference:
            theirs = {task.name: task for task in record[reference].tasks}
            found = [_compared(ours, theirs.get(ours.name)) for ours in found]
        record.set(variant, tasks=tuple(found))


def _results(settings: Settings, record: Record, variant: Variant) -> list[TaskResult]:
    found: list[TaskResult] = []
    with _model(variant, settings.n_threads) as model:
        for task in settings.tasks:
            found += map(_result, task.answered_by(model))
            record.step(f"{task.name} by {variant.label}")
    return found


def _model(variant: Variant, n_threads: int) -> LocalModel:
    config = variant.config(n_ctx=N_CTX, n_threads=n_threads)
    return LocalModel(LlamaBackend(variant.path, config, adapts=False), config)


def _result(found: Answers) -> TaskResult:
    share, error = accuracy(found.right)
    norm = found.right_norm
    return TaskResult(
        name=found.name,
        accuracy=share,
        accuracy_se=error,
        accuracy_norm=sum(norm) / len(norm) if norm else None,
        answers=found.texts,
        right=found.right,
        ids=found.ids,
    )


def _compared(ours: TaskResult, theirs: TaskResult | None) -> TaskResult:
    """Return a level's result with how it differs from the reference's, if that has one."""
    if theirs is None:
        return ours
    return ours.compared_with(
        paired_difference(theirs.right, ours.right, theirs.answers, ours.answers)
    )
