"""Finds and runs tasks of lm-evaluation-harness: what ``localgen eval`` calls."""

from __future__ import annotations

import errno
import fnmatch
import os
from collections.abc import Sequence
from difflib import get_close_matches
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
    _check_folder(include_path)
    if include_path is not None:
        # lm-eval's own are thousands of files, which take a while to read.
        own = TaskManager(include_path=os.fspath(include_path), include_defaults=False)
        if {*tasks} <= {*own.all_subtasks}:
            return own
    manager = _index(include_path)
    known = manager.all_tasks
    if unknown := [name for name in tasks if name not in {*known}]:
        similar = list(dict.fromkeys(each for name in unknown for each in _similar(name, known)))
        hint = f"Did you mean {either(similar)}? " if similar else ""
        raise ValueError(
            f"lm-eval has no task {either([repr(name) for name in unknown])}. {hint}"
            f"`localgen eval --list` prints its own, and include_path adds a folder of YAML files"
        )
    return manager


def task_names(
    patterns: Sequence[str] = (), include_path: str | os.PathLike[str] | None = None
) -> list[str]:
    """Return the names of lm-eval's tasks, groups and tags, and of those in ``include_path``.

    patterns: return names that match one of these, such as "arc_*". Raises as ``find_tasks``.
    """
    _check_folder(include_path)
    names: list[str] = _index(include_path).all_tasks
    if not patterns:
        return names
    return [name for name in names if any(fnmatch.fnmatchcase(name, each) for each in patterns)]


def _similar(name: str, known: Sequence[str]) -> list[str]:
    return get_close_matches(name, known, n=3, cutoff=0.75)


def _index(include_path: str | os.PathLike[str] | None) -> TaskManager:
    return TaskManager(include_path=None if include_path is None else os.fspath(include_path))


def _check_folder(include_path: str | os.PathLike[str] | None) -> None:
    if include_path is not None and not Path(include_path).is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder of tasks", os.fspath(include_path))
