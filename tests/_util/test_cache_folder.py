"""The folder for what can be made again: by the environment, else by the system's custom."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from localgen._util.cache_folder import cache_folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("platform", "folder"),
    [
        ("linux", ".cache/localgen"),
        ("darwin", "Library/Caches/localgen"),
        ("win32", "AppData/Local/localgen"),
    ],
)
def test_below_the_home_folder(
    platform: str, folder: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_folder() == home / folder


@pytest.mark.parametrize(
    ("platform", "variable"), [("linux", "XDG_CACHE_HOME"), ("win32", "LOCALAPPDATA")]
)
def test_the_environment_says_where(
    platform: str, variable: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path means nothing, by the XDG specification."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, str(home / "elsewhere"))
    assert cache_folder() == home / "elsewhere" / "localgen"
    monkeypatch.setenv(variable, "here")
    assert cache_folder() != Path("here/localgen")


def test_a_user_without_a_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert cache_folder() is None
