"""Makes the folders of the files that a comparison writes, before anything is measured."""

from __future__ import annotations

from pathlib import Path

from localgen._util.atomic_write import check_writable
from localgen.errors import CompareError


def make_writable(path: Path, what: str = "") -> None:
    """Make the folder of a file. what: the file's kind, for errors.

    Raises CompareError if that fails, and OSError if the file cannot be written.
    """
    name = f"{what} {path}".strip()
    if path.is_dir():
        raise CompareError(f"{name} cannot be written: it is a folder. Name a file in it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompareError(f"{name} cannot be written: {path.parent}: {error.strerror}") from error
    check_writable(path)
