"""A home folder, and a user who has none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from localgen._util.home import expand_user, home, path_from_environment


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert home() == tmp_path
    assert expand_user("~/m.gguf") == tmp_path / "m.gguf"
    assert expand_user("m~.gguf") == Path("m~.gguf")


def test_a_path_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No shell replaces "~" in what a service's or a container's settings say."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("A_FOLDER", "~/kept")
    assert path_from_environment("A_FOLDER") == tmp_path / "kept"
    monkeypatch.setenv("A_FOLDER", "")
    assert path_from_environment("A_FOLDER") is None
    monkeypatch.delenv("A_FOLDER")
    assert path_from_environment("A_FOLDER") is None


def test_no_home(no_home: None) -> None:
    assert home() is None
    assert expand_user("m.gguf") == Path("m.gguf")
    with pytest.raises(FileNotFoundError, match=r"home folder ~ is unknown\. Set HOME") as caught:
        expand_user("~/m.gguf")
    assert caught.value.filename == "~/m.gguf"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows asks nobody about users")
def test_the_home_of_a_user_who_does_not_exist() -> None:
    with pytest.raises(FileNotFoundError, match="home folder ~nobody-here is unknown"):
        expand_user("~nobody-here/m.gguf")


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of a container or a service, whom the system does not know."""
    for name in ("HOME", "USERPROFILE", "HOMEPATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "pwd", None)
