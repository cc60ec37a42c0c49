"""The command that continues what was interrupted: the one that runs, with another flag."""

from __future__ import annotations

import sys

from localgen._util.shell import command_of

_RESUME, _START_OVER = "--resume", "--overwrite"


def resume_command() -> str:
    """Return the command that was typed, with --resume, and without --overwrite."""
    typed = [word for word in sys.argv[1:] if word not in (_RESUME, _START_OVER)]
    return command_of(["localgen", *typed, _RESUME])
