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
    """Return the text of a flag's file. Raises ValueError for other than UTF-8 text; OSError, which
    says that the flag takes a file's name where there is no such file."""
    try:
        return read_text(path)
    except ValueError as error:
        raise ValueError(f"{flag}: {path}: {error}") from None
    except OSError as error:
        raise _with_hint(error, path, f"{flag} takes the name of a file, not its text") from None


def check_input(source: str, what: str) -> None:
    """Raise OSError unless the input of a command is there; ``what`` says what it is."""
    if source == "-":
        return
    try:
        os.stat(source)
    except OSError as error:
        raise _with_hint(error, source, f"IN is a file of {what}, or - for stdin") from None


def _with_hint(error: OSError, name: str | Path, hint: str) -> OSError:
    if error.errno not in _NO_SUCH_NAME:
        return error
    return FileNotFoundError(errno.ENOENT, f"no such file; {hint}", f"{str(name)!r:.80}")
