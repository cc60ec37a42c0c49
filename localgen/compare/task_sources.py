"""Names of tasks → tasks: files of questions, those that come with localgen, and lm-eval's."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from localgen._util.checks import check_int
from localgen._util.home import expand_user
from localgen._util.suggestions import did_you_mean
from localgen.compare.task_answers import FileTask, Task
from localgen.compare.task_file import SUFFIXES, read_tasks
from localgen.errors import CompareError, EvaluateError
from localgen.evaluate import check_installed

# Questions that come with localgen.
DEMO = "demo"
_DEMO_FILE = Path(__file__).parent / "demo.jsonl"


def find_tasks(
    names: Sequence[str | os.PathLike[str]],
    *,
    limit: int | None = None,
    include_path: str | os.PathLike[str] | None = None,
) -> tuple[Task, ...]:
    """Return the tasks of these names, in order.

    "demo" comes with localgen. A path that exists or that looks like a file of questions is one;
    any other name is lm-eval's. limit: the most questions of each. include_path: a folder of YAML
    files where lm-eval finds tasks, too.

    Raises TypeError unless names are a list, CompareError for a file that has no questions, OSError
    for one that cannot be read, ValueError for two tasks of one name and names that lm-eval lacks,
    EvaluateError if lm-eval cannot load them.
    """
    if isinstance(names, str | bytes | os.PathLike):
        raise TypeError(f"tasks must be a list of names and files, got {names!r:.80}")
    if not all(str(name).strip() for name in names):
        raise ValueError(
            "tasks has an empty name: each must be a file, 'demo' or a task of lm-eval"
        )
    if limit is not None:
        check_int("task_limit", limit, 1)
    others = [str(name) for name in names if not _is_ours(name)]
    if include_path is not None and not others:
        raise ValueError(
            "include_path is where lm-eval finds tasks, but none of its tasks is named in tasks"
        )
    files = {str(name): _file_task(name, limit) for name in names if _is_ours(name)}
    found: dict[str, Task] = {**files, **_harness_tasks(others, limit, include_path)}
    tasks = tuple(found[str(name)] for name in names)
    given = [task.name for task in tasks]
    if len({*given}) < len(given):
        # Results could not tell them apart.
        raise ValueError(f"tasks must have different names, got {', '.join(given)}")
    return tasks


def _is_ours(name: str | os.PathLike[str]) -> bool:
    """Return whether a name is the demonstration or a file."""
    if name == DEMO or not isinstance(name, str):
        return True
    path = expand_user(name)
    has_folder = len(Path(name).parts) > 1
    return has_folder or path.suffix.lower() in SUFFIXES or path.exists()


def _file_task(name: str | os.PathLike[str], limit: int | None) -> FileTask:
    file = read_tasks(_DEMO_FILE if name == DEMO else expand_user(name))
    title = DEMO if name == DEMO else file.name
    return FileTask(dataclasses.replace(file, name=title, questions=file.questions[:limit]))


def _harness_tasks(
    names: Sequence[str], limit: int | None, include_path: str | os.PathLike[str] | None
) -> dict[str, Task]:
    if not names:
        return {}
    try:
        check_installed()
    except EvaluateError as error:
        hint = did_you_mean(names[0], _own_names(), shown=repr)
        raise CompareError(
            f"tasks has {names[0]!r}, which is neither a file nor {DEMO!r}{hint or '.'} If it is a "
            f"task of lm-eval: {error}"
        ) from None
    from localgen.evaluate.graded_tasks import load_tasks  # noqa: PLC0415  # an optional extra

    found = load_tasks(names, limit=limit, include_path=include_path, others=_own_names())
    return {task.name: task for task in found}


def _own_names() -> list[str]:
    """Return what a misspelt name may mean: the demonstration, or a file in this folder."""
    with contextlib.suppress(OSError):  # a folder that cannot be listed
        return [DEMO, *(path.name for path in Path().iterdir() if path.suffix.lower() in SUFFIXES)]
    return [DEMO]
