"""Files that commands read, and what to say where a text was given instead of a file's name."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from localgen._util.text_file import read_text

# How a system says that there is no such file: a whole text may be too long for a name, or have
# characters that no name has.
_NO_SUCH_NAME = (errno.ENOENT, errno.ENAMETOOLONG, errno.EINVAL)


def read_file(flag: str, path: Path) -> str:
    """Return the text of a flag's file. Raises ValueError, as for any other value of a flag that
    cannot be used: for other than UTF-8 text, and for a file that is not there or not readable,
    with the hint that the flag takes a file's name."""
    try:
        return read_text(path)
    except ValueError as error:
        raise ValueError(f"{flag}: {path}: {error}") from None
    except OSError as error:
        hint = f"{flag} takes the name of a file, not its text"
        named = _with_hint(error, path, hint)
        raise ValueError(f"{named.filename}: {named.strerror}") from None


def read_input(path: Path) -> str:
    """Return the text of a command's input. Raises OSError, and ValueError for other than UTF-8."""
    try:
        return read_text(path)
    except ValueError as error:
        raise ValueError(f"IN: {path}: {error}") from None


def check_input(source: str, what: str) -> None:
    """Raise OSError unless the input of a command is there; ``what`` says what it is."""
    if source == "-":
        return
    try:
        os.stat(source)
    except OSError as error:
        raise _with_hint(error, source, f"IN is a file of {what}, or - for stdin") from None


def _with_hint(error: OSError, name: str | Path, hint: str) -> OSError:
    if os.path.isdir(name):
        return IsADirectoryError(errno.EISDIR, f"it is a folder; {hint}", str(name))
    if error.errno not in _NO_SUCH_NAME or os.path.exists(name):  # such as a pipe
        return error
    return FileNotFoundError(errno.ENOENT, f"no such file; {hint}", f"{str(name)!r:.80}")
