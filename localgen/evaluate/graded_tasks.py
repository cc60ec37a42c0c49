"""Tasks of lm-eval whose answers are right or wrong, so that models can be compared by question."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import lm_eval
import numpy as np
from lm_eval.tasks import TaskManager

from localgen._util.format import either
from localgen.errors import EvaluateError, LocalgenError
from localgen.evaluate.answers import Answers
from localgen.evaluate.harness_model import LocalgenLM
from localgen.evaluate.run import find_tasks, load_parts, told
from localgen.model import LocalModel

# Metrics that are 0 or 1 for each question; a task's answers are right by the first that it has.
_RIGHT = ("acc", "exact_match")
# lm-eval's own default, for the choice of examples.
_SEED = 1234


class GradedTask:
    """A task or group of lm-eval. The questions of a group count as those of one task."""

    def __init__(self, name: str, parts: Mapping[str, Any], limit: int | None) -> None:
        """parts: lm-eval's tasks by name. limit: the most questions of each."""
        self.name = name
        self._parts = dict(parts)
        self._limit = limit
        self._metrics = {each: _metric(each, task) for each, task in self._parts.items()}
        for task in self._parts.values():
            if task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=_SEED)
        sizes = [len(task.eval_docs) for task in self._parts.values()]
        self.n_questions = sum(size if limit is None else min(size, limit) for size in sizes)
        self.sha256 = self._digest()

    def _digest(self) -> str:
        """Return a SHA-256 that changes with the questions, and with how they are asked."""
        digest = hashlib.sha256(f"{lm_eval.__version__} {self._limit}".encode())
        for name, task in self._parts.items():
            docs = [doc for _, doc in task.doc_iterator(limit=self._limit)]
            about = [name, task.dump_config(), docs]
            digest.update(json.dumps(about, sort_keys=True, default=_type_name).encode())
        return digest.hexdigest()

    def answered_by(self, model: LocalModel) -> list[Answers]:
        """Return a model's answers; several where the task extracts them in several ways.

        Raises EvaluateError if lm-eval fails.
        """
        try:
            found = lm_eval.evaluate(
                LocalgenLM(model, show_progress=False),
                dict(self._parts),
                limit=self._limit,
                bootstrap_iters=0,
            )
            return [*self._answers(found["samples"])]
        except LocalgenError:
            raise
        except Exception as error:  # tasks bring code of their own
            raise EvaluateError(f"lm-eval fails at {self.name}: {told(error)}") from error

    def _answers(self, samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Answers]:
        by_filter: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
        for part, of_part in samples.items():
            for sample in of_part:
                by_filter.setdefault(sample["filter"], []).append((part, sample))
        for filter_name, found in by_filter.items():
            several = len(by_filter) > 1
            norms = [sample["acc_norm"] for _, sample in found if "acc_norm" in sample]
            yield Answers(
                name=f"{self.name} ({filter_name})" if several else self.name,
                ids=tuple(self._id(part, sample) for part, sample in found),
                texts=tuple(_answer(self._parts[part], sample) for part, sample in found),
                right=tuple(self._is_right(part, sample) for part, sample in found),
                right_norm=tuple(value == 1 for value in norms),
            )

    def _id(self, part: str, sample: Mapping[str, Any]) -> str:
        number = sample["doc_id"]
        return f"{part}/{number}" if len(self._parts) > 1 else f"{number}"

    def _is_right(self, part: str, sample: Mapping[str, Any]) -> bool:
        metric = self._metrics[part]
        value = sample[metric]
        if value not in (0, 1):
            raise EvaluateError(
                f"{part} gives {value!r:.40} as {metric} of a question, which is neither right nor "
                f"wrong. Run it with localgen eval"
            )
        return bool(value)


def load_tasks(
    names: Sequence[str],
    *,
    limit: int | None = None,
    include_path: str | os.PathLike[str] | None = None,
    others: Sequence[str] = (),
) -> list[GradedTask]:
    """Return tasks of lm-eval with their data, which may be downloaded first.

    limit: the most questions of each task. others: see ``find_tasks``. Raises ValueError for names
    that do not exist, and EvaluateError for tasks that cannot be loaded or have no right answers.
    """
    manager = find_tasks(names, include_path, others=others)
    return [_load(name, manager, limit) for name in names]


def _load(name: str, manager: TaskManager, limit: int | None) -> GradedTask:
    try:
        return GradedTask(name, load_parts(name, manager), limit)
    except LocalgenError:
        raise
    except Exception as error:  # lm-eval's, its data sets', or of a task's own code
        raise EvaluateError(f"lm-eval cannot load {name}: {told(error)}") from error


def _metric(name: str, task: Any) -> str:
    """Return the metric by which a task's answers are right. Raises EvaluateError without one."""
    if getattr(task, "UNSAFE_CODE", False):
        raise EvaluateError(f"{name} runs code that the model writes; use lm-eval itself for it")
    found = [*task.aggregation()]
    for metric in _RIGHT:
        if metric in found:
            return metric
    raise EvaluateError(
        f"{name} measures {', '.join(found)}, but comparing answers needs {either(_RIGHT)}. Run it "
        f"with localgen eval"
    )


def _answer(task: Any, sample: Mapping[str, Any]) -> str:
    """Return the number of the choice, the generated text, or whether the text is greedy."""
    responses = sample["filtered_resps"]
    if task.OUTPUT_TYPE == "multiple_choice":
        # Log-likelihoods of the answers alone follow for the mutual information.
        n_choices = len(responses) // (2 if "acc_mutual_info" in sample else 1)
        return str(int(np.argmax([logprob for logprob, _ in responses[:n_choices]])))
    if task.OUTPUT_TYPE == "loglikelihood":
        return str(bool(responses[0][1]))
    return str(responses[0])


def _type_name(value: object) -> str:
    """Stand in for what JSON lacks: a representation may have an address in it."""
    return type(value).__name__
