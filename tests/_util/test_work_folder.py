"""Temporary folders: gone after use, and cleared by a later run if a process was killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from localgen._util import work_folder as module
from localgen._util.work_folder import work_folder

KEEP = """
import sys
from pathlib import Path
from localgen._util.work_folder import work_folder

with work_folder(Path(sys.argv[1])) as folder:
    (folder / "big.gguf").write_bytes(b"data")
    print(folder, flush=True)
    sys.stdin.read()
"""


class Holder:
    """A process that has a work folder until it is killed."""

    def __init__(self, parent: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", KEEP, str(parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.folder = Path(self._process.stdout.readline().strip())

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def test_a_folder_is_removed_with_its_files(tmp_path: Path) -> None:
    with work_folder(tmp_path) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").touch()
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyError), work_folder(tmp_path):
        raise KeyError
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_stays(
    tmp_path: Path,
) -> None:
    killed, living = Holder(tmp_path), Holder(tmp_path)
    killed.kill()
    assert (killed.folder / "big.gguf").exists()
    with work_folder(tmp_path) as folder:
        assert {*tmp_path.iterdir()} == {folder, living.folder}
        assert (living.folder / "big.gguf").exists()
    living.kill()


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        (".localgen-work-0123abcd", "localgen another-machine\n"),
        (".localgen-work-0123abcd", ""),
        (".localgen-work-0123abcd", None),
        (".localgen-backup", "own"),
        (".localgen-work-0123abcd.bak", "own"),
    ],
)
def test_what_may_belong_to_others_stays(name: str, owner: str | None, tmp_path: Path) -> None:
    """Another machine's folder on a shared disk, one that is just being made, and a user's own."""
    other = tmp_path / name
    other.mkdir()
    (other / "file").touch()
    if owner is not None:
        (other / "owner.lock").write_bytes(module._machine() if owner == "own" else owner.encode())
    with work_folder(tmp_path):
        pass
    assert (other / "file").exists()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "owner.lock").write_bytes(module._machine())
    try:
        (tmp_path / ".localgen-work-0123abcd").symlink_to(elsewhere, target_is_directory=True)
    except OSError:
        pytest.skip("links need a privilege here")
    with work_folder(tmp_path):
        pass
    assert (elsewhere / "owner.lock").exists()


def test_without_working_locks_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is in use would look like one that was left."""
    left = tmp_path / ".localgen-work-0123abcd"
    left.mkdir()
    (left / "owner.lock").write_bytes(module._machine())
    with monkeypatch.context() as patched:
        patched.setattr(module, "lock", lambda _: True)
        with work_folder(tmp_path):
            pass
    assert left.exists()
    with work_folder(tmp_path):
        pass
    assert not left.exists()
