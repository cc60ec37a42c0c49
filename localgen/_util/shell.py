"""Commands for people to paste into their shell: PowerShell on Windows, a POSIX shell elsewhere."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable

IS_WINDOWS = sys.platform == "win32"
# At the end of a line, it continues the command on the next one.
LINE_CONTINUATION = "`" if IS_WINDOWS else "\\"


def with_variables(settings: list[str], command: str, *, windows: bool = IS_WINDOWS) -> str:
    """Return a line that runs ``command`` with environment variables, each NAME="value"."""
    if windows:
        return "; ".join([*(f"$env:{setting}" for setting in settings), command])
    return " ".join([*settings, command])


def set_variable(setting: str, *, windows: bool = IS_WINDOWS) -> str:
    """Return the command that sets an environment variable, NAME="value"."""
    return f"$env:{setting}" if windows else f"export {setting}"


def unset_variable(name: str, *, windows: bool = IS_WINDOWS) -> str:
    """Return the command that removes an environment variable."""
    return f"Remove-Item Env:{name}" if windows else f"unset {name}"


def command_of(words: Iterable[str], *, windows: bool = IS_WINDOWS) -> str:
    """Return the line that runs a program with arguments; ``words`` are both."""
    return " ".join(_quoted(word) for word in words) if windows else shlex.join(words)


def _quoted(word: str) -> str:
    """Return a word for PowerShell, where a comma alone would make it a list."""
    if re.fullmatch(r"[\w./:=\\-]+", word):
        return word
    return "'" + word.replace("'", "''") + "'"
