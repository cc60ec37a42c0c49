"""Reads huggingface_hub's cache without making requests.

Its layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache. Next to the files of
huggingface_hub, a mark is stored for each file whose checksum has not been verified yet.
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
    """The cached files of one commit; ``files`` are relative to ``folder``."""

    folder: Path
    files: tuple[str, ...]


def root() -> Path:
    """Return huggingface_hub's cache folder, which HF_HOME and HF_HUB_CACHE set."""
    from huggingface_hub import constants  # noqa: PLC0415

    return Path(constants.HF_HUB_CACHE)


def repository_folder(repo: str) -> Path:
    """Return the folder of ``repo`` in the cache, which need not exist."""
    return root() / f"models--{repo.replace('/', '--')}"


def snapshot(name: HubName) -> Snapshot | None:
    """Return what is cached of the revision in ``name``; None if nothing is."""
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
    found = [path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file()]
    return Snapshot(files, tuple(sorted(found)))


def mark_unverified(repo: str, commit: str, file: str, checksum: str) -> None:
    """Record that ``file`` has not been verified against ``checksum``, which may be UNKNOWN."""
    mark = _mark(repo, commit, file)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(checksum, "ascii")


def unmark(repo: str, commit: str, file: str) -> None:
    """Remove the mark of ``mark_unverified``."""
    _mark(repo, commit, file).unlink(missing_ok=True)


def unverified(repo: str, commit: str, file: str) -> str | None:
    """Return the checksum that ``file`` must still be verified against; None if it was."""
    try:
        return _mark(repo, commit, file).read_text("ascii")
    except FileNotFoundError:
        return None


def _mark(repo: str, commit: str, file: str) -> Path:
    return repository_folder(repo) / _MARKS / commit / f"{file}.checksum"


def remove(path: Path) -> None:
    """Remove a file of a snapshot and the blob that it links to."""
    while path.is_symlink():
        target = path.parent / os.readlink(path)
        path.unlink()
        path = target
    path.unlink(missing_ok=True)
