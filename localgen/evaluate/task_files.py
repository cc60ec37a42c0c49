"""Finds the files of a folder of tasks that lm-eval skips without a word; it loads no task."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """Reads the tags of lm-eval, such as !function, as plain values."""


_Loader.add_multi_constructor("!", lambda *_: None)


def unreadable_files(folder: str | os.PathLike[str]) -> Iterator[str]:
    """Yield "FILE: what is wrong" for each YAML file that cannot be the file of a task."""
    for path in sorted(Path(folder).glob("**/*.yaml")):
        if problem := _problem(path):
            yield f"{path}: {problem}"


def _problem(path: Path) -> str | None:
    try:
        found = yaml.load(path.read_bytes(), _Loader)  # a safe one
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f" in line {mark.line + 1}" if mark else ""
        return f"it is not YAML: {error.problem}{line}"
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        return f"it is not YAML: {str(error).splitlines()[0] if str(error) else 'too deep'}"
    if not isinstance(found, dict):
        return "it has no names with values"
    return _missing_include(path, found)


def _missing_include(path: Path, found: dict[Any, Any]) -> str | None:
    given = found.get("include") or []
    for name in [given] if isinstance(given, str) else given:
        included = path.parent / str(name)
        if not included.is_file():
            return f"it includes {name}, which does not exist"
        if included.samefile(path):
            return "it includes itself"
    return None
