"""Folders for what localgen stores: by the environment, else by the system's custom."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from localgen._util.user_folders import cache_folder, state_folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("platform", "cache", "state"),
    [
        ("linux", ".cache/localgen", ".local/state/localgen"),
        ("darwin", "Library/Caches/localgen", ".local/state/localgen"),
        ("win32", "AppData/Local/localgen", "AppData/Local/localgen"),
    ],
)
def test_below_the_home_folder(
    platform: str, cache: str, state: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_folder() == home / cache
    assert state_folder() == home / state


@pytest.mark.parametrize(
    ("platform", "variable", "folder"),
    [
        ("linux", "XDG_CACHE_HOME", cache_folder),
        ("linux", "XDG_STATE_HOME", state_folder),
        ("win32", "LOCALAPPDATA", cache_folder),
        ("win32", "LOCALAPPDATA", state_folder),
    ],
)
def test_the_environment_says_where(
    platform: str,
    variable: str,
    folder: Callable[[], Path | None],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A relative path means nothing, by the XDG specification."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, str(home / "elsewhere"))
    assert folder() == home / "elsewhere" / "localgen"
    monkeypatch.setenv(variable, "here")
    assert folder() != Path("here/localgen")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv(variable, "~/elsewhere")
    assert folder() == home / "elsewhere" / "localgen"


def test_a_user_without_a_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert cache_folder() is None
    assert state_folder() is None
