"""The file of what was typed in earlier chats; a chat without it continues."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from localgen._util.user_folders import state_folder


def kept_history(say: Callable[[str], None]) -> History:
    """Return the history in its file, or one of this chat alone, with a message, without a file."""
    try:
        return _KeptHistory(str(_file()))
    except OSError as error:
        say(f"localgen: what you type is not kept for later chats: {error}")
        return InMemoryHistory()


def _file() -> Path:
    """Return the file of earlier inputs, which only its owner may read. Raises OSError."""
    folder = state_folder()
    if folder is None:
        raise FileNotFoundError("this user has no home folder. Set HOME or XDG_STATE_HOME.")
    path = folder / "chat_history"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    return path


class _KeptHistory(FileHistory):
    def load_history_strings(self) -> Iterator[str]:
        with contextlib.suppress(OSError):
            yield from super().load_history_strings()

    def store_string(self, string: str) -> None:
        with contextlib.suppress(OSError):  # only the arrow keys of later chats lack it
            super().store_string(string)
