"""Finds and runs tasks of lm-evaluation-harness: what ``localgen eval`` calls."""

from __future__ import annotations

import errno
import fnmatch
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.tasks import TaskManager, get_task_dict

from localgen._util.format import either, some_of
from localgen._util.suggestions import similar_names
from localgen.errors import EvaluateError, LocalgenError
from localgen.evaluate.harness_model import LocalgenLM
from localgen.evaluate.task_files import unreadable_files

# How like a task's name must be to a known one: thousands are known.
_CUTOFF = 0.75


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
    ``simple_evaluate``. Raises ValueError for tasks that do not exist, and EvaluateError if lm-eval
    fails, with the name of a task that it cannot load.
    """
    manager = task_manager or find_tasks(tasks, include_path)
    try:
        found: dict[str, Any] = lm_eval.simple_evaluate(
            model=model, tasks=[*tasks], task_manager=manager, **options
        )
        return found
    except LocalgenError:
        raise
    except Exception as error:  # lm-eval's, its data sets', or of a task's own code
        _check_loading(tasks, manager)
        if isinstance(error, ValueError | TypeError):  # of options and requests: see LocalgenLM
            raise
        raise EvaluateError(f"lm-eval fails at {', '.join(tasks)}: {told(error)}") from error


def load_parts(name: str, manager: TaskManager) -> dict[str, Any]:
    """Return the tasks of a group by name, or the one that has this name.

    Raises EvaluateError if lm-eval cannot load them.
    """
    try:
        if hasattr(manager, "load"):
            found: dict[str, Any] = manager.load([name])["tasks"]
            return found
        # lm-eval before 0.4.12
        return dict(_leaves(get_task_dict([name], manager)))
    except LocalgenError:
        raise
    except Exception as error:  # lm-eval's, its data sets', or of a task's own code
        raise EvaluateError(f"lm-eval cannot load {name}: {told(error)}") from error


def told(error: Exception) -> str:
    """Return an error of lm-eval or of a task as text."""
    return f"{type(error).__name__}: {error}"


def _leaves(found: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the tasks within groups."""
    for name, task in found.items():
        if isinstance(task, Mapping):
            yield from _leaves(task)
        else:
            yield str(name), task


def _check_loading(tasks: Sequence[str], manager: TaskManager) -> None:
    """Raise EvaluateError for the first task that lm-eval cannot load."""
    for name in tasks:
        load_parts(name, manager)


def find_tasks(
    tasks: Sequence[str],
    include_path: str | os.PathLike[str] | None = None,
    *,
    others: Sequence[str] = (),
) -> TaskManager:
    """Return lm-eval's index of tasks, which has all of ``tasks``; it loads none of them.

    others: names that are not lm-eval's, which an error may suggest as well.
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
        near = [similar_names(name, [*others, *known], cutoff=_CUTOFF) for name in unknown]
        similar = list(dict.fromkeys(chain.from_iterable(near)))
        hint = f"Did you mean {either(similar)}? " if similar else ""
        raise ValueError(
            f"lm-eval has no task {either([repr(name) for name in unknown])}. {hint}"
            f"`localgen eval --list` prints its own, and include_path adds a folder of YAML files"
            f"{_skipped(include_path)}"
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


def _skipped(include_path: str | os.PathLike[str] | None) -> str:
    """Return what to add to an error: the files that lm-eval skips, some of them."""
    files = [] if include_path is None else [*unreadable_files(include_path)]
    return f". It skips {some_of(files, 'file')}" if files else ""


def _index(include_path: str | os.PathLike[str] | None) -> TaskManager:
    return TaskManager(include_path=None if include_path is None else os.fspath(include_path))


def _check_folder(include_path: str | os.PathLike[str] | None) -> None:
    if include_path is not None and not Path(include_path).is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder of tasks", os.fspath(include_path))
