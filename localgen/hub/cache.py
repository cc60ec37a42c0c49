"""Reads huggingface_hub's cache without making requests.

Its layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache. Next to the files of
huggingface_hub, a mark is stored for each file whose checksum has not been verified yet. What is
broken in the cache is named in a warning and skipped.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from localgen._util.warn import warn
from localgen.errors import DownloadError
from localgen.hub.names import HubName
from localgen.hub.settings import settings

_MARKS = "localgen-unverified"
_PREFIX = "models--"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CHECKSUM = re.compile(r"(?:sha256|git|size) [0-9a-f]+|unstated -")
UNKNOWN = "unknown"
UNSTATED = "unstated -"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The cached files of one commit; ``files`` are relative to ``folder``."""

    folder: Path
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A cached file; ``path`` is its place in a snapshot, ``blob`` that of its bytes."""

    path: Path
    blob: Path
    n_bytes: int
    last_used: float
    last_modified: float


@dataclass(frozen=True, slots=True)
class Revision:
    """A cached commit of a repository, the branches and tags that mean it, its files by name."""

    repo: str
    commit: str
    refs: frozenset[str]
    folder: Path
    files: dict[str, CachedFile]


def root() -> Path:
    """Return huggingface_hub's cache folder, which HF_HOME and HF_HUB_CACHE set.

    Raises DownloadError for a user without a home folder, where neither is set, and for invalid
    settings.
    """
    folder = Path(settings().HF_HUB_CACHE)
    if folder.parts[:1] == ("~",):
        raise DownloadError(
            "there is no folder for models from the Hub, since this user has no home folder. Set "
            "HF_HOME or HOME."
        )
    return folder


def repository_folder(repo: str) -> Path:
    """Return the folder of ``repo`` in the cache, which need not exist."""
    return root() / f"{_PREFIX}{repo.replace('/', '--')}"


def snapshot(name: HubName) -> Snapshot | None:
    """Return what is cached of the revision in ``name``; None if nothing is."""
    folder = repository_folder(name.repo)
    commit = name.revision if name.is_pinned else _commit_in(folder / "refs" / name.revision)
    if commit is None:
        return None
    files = folder / "snapshots" / commit
    if not files.is_dir():
        return None
    found = [path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file()]
    return Snapshot(files, tuple(sorted(filter(_is_text, found))))


def _commit_in(ref: Path) -> str | None:
    """Return the commit in a reference's file; None, with a warning, if it holds something else."""
    try:
        text = ref.read_bytes().strip().decode("ascii", "replace")
    except OSError:
        return None
    if _COMMIT.fullmatch(text):
        return text
    warn(f"{_shown(ref)} is damaged and skipped: it names no commit. Remove it.")
    return None


def revisions(repo: str | None = None) -> list[Revision]:
    """Return the cached revisions of ``repo``, or of all, sorted by repository; main is first, then
    the newest."""
    try:
        folders = sorted(root().iterdir()) if repo is None else [repository_folder(repo)]
    except (FileNotFoundError, NotADirectoryError, DownloadError):  # there is no cache
        return []
    found: list[Revision] = []
    for folder in folders:
        if folder.name.startswith(_PREFIX) and folder.is_dir() and _is_named(folder, folder.name):
            of_repo = list(_revisions_in(folder))
            found += sorted(of_repo, key=lambda each: ("main" not in each.refs, -_newest(each)))
    return found


def _newest(revision: Revision) -> float:
    return max((file.last_modified for file in revision.files.values()), default=0.0)


def _revisions_in(folder: Path) -> Iterator[Revision]:
    refs: dict[str | None, set[str]] = {}
    for ref in sorted((folder / "refs").rglob("*")):
        if ref.is_file() and not ref.name.startswith("."):  # a file of the system's own
            name = ref.relative_to(folder / "refs").as_posix()
            refs.setdefault(_commit_in(ref), set()).add(name)
    for commit in sorted((folder / "snapshots").glob("*")):
        if commit.is_dir():
            yield Revision(
                folder.name.removeprefix(_PREFIX).replace("--", "/"),
                commit.name,
                frozenset(refs.get(commit.name, ())),
                commit,
                dict(_files_in(commit)),
            )


def _files_in(snapshot: Path) -> Iterator[tuple[str, CachedFile]]:
    for path in sorted(snapshot.rglob("*")):
        name = path.relative_to(snapshot).as_posix()
        if path.is_dir() or not _is_named(path, name):
            continue
        # The first link only: a blob may itself point into a store that other repositories share.
        blob = Path(os.path.abspath(path.parent / os.readlink(path))) if path.is_symlink() else path
        try:
            stat = blob.stat()
        except OSError as error:
            warn(f"{path} is damaged and skipped: {error.strerror}. Fetch it again, or remove it.")
            continue
        yield name, CachedFile(path, blob, stat.st_size, stat.st_atime, stat.st_mtime)


def _is_named(path: Path, name: str) -> bool:
    """Return whether the name of what is at ``path`` is text; warn if not."""
    if _is_text(name):
        return True
    warn(f"{_shown(path)} is skipped: its name is not text.")
    return False


def _is_text(name: str) -> bool:
    return not any("\udc80" <= char <= "\udcff" for char in name)


def _shown(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def size_on_disk() -> int:
    """Return the bytes of all files in the cache, of data sets too."""
    n_bytes = 0
    for folder, _, files in os.walk(root()):
        for file in files:
            path = Path(folder, file)
            n_bytes += 0 if path.is_symlink() else path.stat().st_size
    return n_bytes


def mark_unverified(repo: str, commit: str, file: str, checksum: str) -> None:
    """Record that ``file`` has not been verified against ``checksum``, which may be UNKNOWN, or
    UNSTATED by the server."""
    mark = _mark(repo, commit, file)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(checksum, "ascii")


def unmark(repo: str, commit: str, file: str) -> None:
    """Remove the mark of ``mark_unverified``."""
    _mark(repo, commit, file).unlink(missing_ok=True)


def unverified(repo: str, commit: str, file: str) -> str | None:
    """Return the checksum that ``file`` must still be verified against; None if it was."""
    try:
        text = _mark(repo, commit, file).read_bytes().decode("ascii", "replace")
    except FileNotFoundError:
        return None
    return text if _CHECKSUM.fullmatch(text) else UNKNOWN


def _mark(repo: str, commit: str, file: str) -> Path:
    return repository_folder(repo) / _MARKS / commit / f"{file}.checksum"


def remove(path: Path) -> None:
    """Remove a file of a snapshot and the blob that it links to."""
    while path.is_symlink():
        target = path.parent / os.readlink(path)
        path.unlink()
        path = target
    path.unlink(missing_ok=True)


def remove_revision(revision: Revision) -> None:
    """Remove a snapshot and what refers to it; the whole repository with its last one."""
    import shutil  # noqa: PLC0415  # only here

    folder = revision.folder.parents[1]
    shutil.rmtree(revision.folder)
    for ref in revision.refs:
        (folder / "refs" / ref).unlink(missing_ok=True)
    if not any(folder.glob("snapshots/*")):
        shutil.rmtree(folder)
