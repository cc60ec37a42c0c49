"""The user's home folder, which a service or a container may lack; nothing else asks for it."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def home() -> Path | None:
    """Return the user's home folder; None if this user has none."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def expand_user(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` with "~" or "~name" replaced. Raises FileNotFoundError if it is unknown."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        reason = f"the home folder {Path(path).parts[0]} is unknown. Set HOME, or write it out"
        raise FileNotFoundError(errno.ENOENT, reason, os.fspath(path)) from None


def path_from_environment(variable: str) -> Path | None:
    """Return the path in an environment variable, "~" replaced: who sets it without a shell gets no
    other expansion. None if it is unset or empty. Raises as ``expand_user``."""
    stated = os.environ.get(variable)
    return expand_user(stated) if stated else None
