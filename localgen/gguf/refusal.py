"""The error that a file's content gives; it knows no GGUF."""

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
    raise InvalidGGUFError(f"{file.path} is damaged or no model: {reason}")
