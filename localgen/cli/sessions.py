"""A session file that is loaded before a block and saved after it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from localgen.errors import LocalgenError
from localgen.model import LocalModel


@contextlib.contextmanager
def kept_session(model: LocalModel, path: Path | None) -> Iterator[None]:
    """Load ``path`` if it exists, and save to it afterwards, also after Ctrl-C.

    After any other error the file stays as it is.
    """
    if path is None:
        yield
        return
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the session needs the folder {path.parent}, which does not exist")
    with contextlib.suppress(FileNotFoundError):
        model.load_session(path)
    try:
        yield
    except KeyboardInterrupt:
        try:
            model.save_session(path)
        except (LocalgenError, OSError) as error:
            print(f"localgen: the session was not saved: {error}", file=sys.stderr)
        raise
    model.save_session(path)
