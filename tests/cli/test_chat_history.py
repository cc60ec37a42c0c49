"""What was typed in earlier chats: kept where it can be, and never the end of a chat."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from prompt_toolkit.history import InMemoryHistory

from localgen.cli import chat_history
from localgen.cli.chat_history import kept_history


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(chat_history, "state_folder", lambda: tmp_path / "localgen")
    return tmp_path / "localgen"


def refuse(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_later_chat_has_it(folder: Path) -> None:
    said: list[str] = []
    kept_history(said.append).append_string("né ✓\nsecond line")
    assert list(kept_history(said.append).load_history_strings()) == ["né ✓\nsecond line"]
    assert (folder / "chat_history").stat().st_mode & 0o77 == 0
    assert said == []


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: a chat in a service or a container ended with a traceback."""
    monkeypatch.setattr(chat_history, "state_folder", lambda: None)
    said: list[str] = []
    assert isinstance(kept_history(said.append), InMemoryHistory)
    assert said == [
        "localgen: what you type is not kept for later chats: this user has no home folder. Set "
        "HOME or XDG_STATE_HOME."
    ]


def test_a_folder_that_cannot_be_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", refuse)
    said: list[str] = []
    assert isinstance(kept_history(said.append), InMemoryHistory)
    assert "No space left on device" in said[0]


def test_a_disk_that_fills_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: the message was not sent, and the chat ended."""
    history = kept_history(print)
    history.append_string("kept")
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refuse)
        history.append_string("on a full disk")
    assert list(kept_history(print).load_history_strings()) == ["kept"]
