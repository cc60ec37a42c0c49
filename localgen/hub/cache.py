"""What huggingface_hub's cache holds of a repository, read without a request.

Its layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache. Beside the files that
huggingface_hub keeps there, a mark is kept of each one whose checksum has not been seen yet.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from localgen.hub.names import HubName

_MARKS = "localgen-unverified"
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of one commit that are on the disk; ``files`` relative to ``folder``."""

    folder: Path
    files: tuple[str, ...]


def root() -> Path:
    """huggingface_hub's cache folder; HF_HOME and HF_HUB_CACHE move it."""
    from huggingface_hub import constants  # noqa: PLC0415

    return Path(constants.HF_HUB_CACHE)


def repository_folder(repo: str) -> Path:
    """Where the cache keeps ``repo``, whether it is there or not."""
    return root() / f"models--{repo.replace('/', '--')}"


def snapshot(name: HubName) -> Snapshot | None:
    """What is there of the revision that ``name`` says; None if nothing is."""
    folder = repository_folder(name.repo)
    commit = name.revision
    if not name.is_pinned:
        try:
            commit = (folder / "refs" / name.revision).read_text("ascii").strip()
        except OSError:
            return None
    files = folder / "snapshots" / commit
    if not files.is_dir():
        return None
    there = [path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file()]
    return Snapshot(files, tuple(sorted(there)))


def mark_unverified(repo: str, commit: str, file: str, checksum: str) -> None:
    """Note that ``file`` has not been compared with ``checksum``, which may be UNKNOWN."""
    mark = _mark(repo, commit, file)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(checksum, "ascii")


def unmark(repo: str, commit: str, file: str) -> None:
    """Take the note of ``mark_unverified`` away."""
    _mark(repo, commit, file).unlink(missing_ok=True)


def unverified(repo: str, commit: str, file: str) -> str | None:
    """The checksum that ``file`` has not been compared with; None if it is known to be right."""
    try:
        return _mark(repo, commit, file).read_text("ascii")
    except FileNotFoundError:
        return None


def _mark(repo: str, commit: str, file: str) -> Path:
    return repository_folder(repo) / _MARKS / commit / f"{file}.checksum"


def remove(path: Path) -> None:
    """Remove a snapshot's entry and what it links to."""
    while path.is_symlink():
        target = path.parent / os.readlink(path)
        path.unlink()
        path = target
    path.unlink(missing_ok=True)
