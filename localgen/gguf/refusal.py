"""The error about a file's content; it knows no GGUF."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn, Protocol

from localgen.errors import InvalidGGUFError


class HasPath(Protocol):
    """A file that was read."""

    @property
    def path(self) -> Path: ...


def refuse(file: HasPath, reason: str) -> NoReturn:
    """Raise InvalidGGUFError with the file's path and the reason."""
    raise InvalidGGUFError(f"{file.path} is not a valid model file: {reason}")
