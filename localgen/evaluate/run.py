"""Runs tasks of lm-evaluation-harness on a model: what ``localgen eval`` calls."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.tasks import TaskManager

from localgen._util.format import either
from localgen.evaluate.harness_model import LocalgenLM


def evaluate(
    model: LocalgenLM,
    tasks: Sequence[str],
    *,
    include_path: str | os.PathLike[str] | None = None,
    task_manager: TaskManager | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Return what ``lm_eval.simple_evaluate`` returns for a model.

    tasks: names of lm-eval's tasks and groups, or of those in ``include_path``, a folder of YAML
    files. task_manager: what ``find_tasks`` returned for them. options: further arguments of
    ``simple_evaluate``. Raises ValueError for tasks that do not exist.
    """
    manager = task_manager or find_tasks(tasks, include_path)
    found: dict[str, Any] = lm_eval.simple_evaluate(
        model=model, tasks=[*tasks], task_manager=manager, **options
    )
    return found


def find_tasks(
    tasks: Sequence[str], include_path: str | os.PathLike[str] | None = None
) -> TaskManager:
    """Return lm-eval's index of tasks, which has all of ``tasks``; it loads none of them.

    Raises ValueError for names that it lacks, FileNotFoundError without the folder
    ``include_path``.
    """
    if not tasks:
        raise ValueError("tasks is empty: pass at least the name of one task")
    if include_path is not None and not Path(include_path).is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder of tasks", os.fspath(include_path))
    folder = None if include_path is None else os.fspath(include_path)
    manager = TaskManager(include_path=folder)
    known = {*manager.all_tasks}
    if unknown := [name for name in tasks if name not in known]:
        raise ValueError(
            f"lm-eval has no task {either([repr(name) for name in unknown])}; "
            f"`lm-eval ls tasks` lists its own, and include_path adds a folder of YAML files"
        )
    return manager
