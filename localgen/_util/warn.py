"""Warnings that point at the line of user code that caused them."""

from __future__ import annotations

import sys
import warnings


def warn(message: str) -> None:
    """Warn at the line outside localgen that called into it, however deep the call is."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == "localgen"
