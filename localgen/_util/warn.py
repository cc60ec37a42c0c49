"""Warnings that point at the line of user code that caused them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_are_errors: ContextVar[bool] = ContextVar("are_errors", default=False)
_subject: ContextVar[str | None] = ContextVar("subject", default=None)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line outside localgen that called into it, however deep the call is.

    Raises ValueError inside ``warnings_as_errors()``.
    """
    if _are_errors.get():
        raise ValueError(message)
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


@contextmanager
def warnings_as_errors() -> Iterator[None]:
    """Raise ValueError for a warning in the block, or in a thread that ``asyncio`` starts there: a
    server cannot show it to those who caused it."""
    token = _are_errors.set(True)
    try:
        yield
    finally:
        _are_errors.reset(token)


@contextmanager
def warnings_about(subject: str) -> Iterator[None]:
    """Name what warnings are about where a command prints them, such as a line of a file.

    It is not part of a warning's text, so that a warning about many of them is printed once.
    """
    token = _subject.set(subject)
    try:
        yield
    finally:
        _subject.reset(token)


def warning_subject() -> str | None:
    """Return what a warning that is printed now is about; None if nothing is named."""
    return _subject.get()


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == "localgen"
