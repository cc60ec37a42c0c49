"""Lists repositories on the Hub, and fetches and verifies their files.

huggingface_hub does the transfer, with its cache, tokens, retries, resumption, xet and HF_ENDPOINT.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localgen.errors import DownloadError, LocalgenError
from localgen.hub import cache
from localgen.hub.bars import transfer_bar
from localgen.hub.failures import explained, missing_repository, missing_revision
from localgen.hub.names import HubName, why_unsafe

_LISTING_SECONDS = 10.0
_BLOCK_BYTES = 2**20
# Disk space left free for other programs.
_SPARE_BYTES = 2**24


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file's size in bytes and checksum: "sha256 HEX", or "git HEX" if it is not in LFS."""

    size: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a repository at one commit."""

    commit: str
    files: dict[str, RemoteFile]


class MovedError(Exception):
    """The revision moved to another commit between its listing and its download."""


def listing(name: HubName) -> Listing:
    """Return the files of ``name.repo`` at its revision.

    Raises DownloadError and ModelNotFoundError.
    """
    from huggingface_hub import HfApi, errors  # noqa: PLC0415

    api = HfApi()
    with explained(name):
        try:
            info = api.model_info(
                name.repo,
                revision=name.revision,
                files_metadata=True,
                timeout=_LISTING_SECONDS,
            )
        except errors.RevisionNotFoundError as error:
            raise missing_revision(api, name) from error
        except errors.GatedRepoError:
            raise
        except errors.RepositoryNotFoundError as error:
            raise missing_repository(api, name) from error
    files = {}
    for sibling in info.siblings or ():
        file = sibling.rfilename
        if not file.lower().endswith(".gguf"):
            continue
        reason = why_unsafe(file)
        if reason:
            raise DownloadError(
                f"{name.repo} lists the unsafe file {file!r}, so nothing is fetched: {reason}"
            )
        checksum = f"sha256 {sibling.lfs.sha256}" if sibling.lfs else f"git {sibling.blob_id}"
        files[file] = RemoteFile(sibling.size or 0, checksum)
    if not info.sha:
        raise DownloadError(f"the Hub's answer for {name} names no commit")
    return Listing(info.sha, files)


def download(name: HubName, of: Listing, files: tuple[str, ...]) -> Path:
    """Fetch and verify those of ``files`` that are not cached; return the first one's path.

    Raises DownloadError and MovedError.
    """
    missing = [file for file in files if not _path(name, of.commit, file).is_file()]
    _check_disk(name, sum(of.files[file].size for file in missing))
    for file in files:
        checksum = of.files[file].checksum
        # If the process is killed after the transfer, the file must not count as verified.
        if file in missing or cache.unverified(name.repo, of.commit, file):
            cache.mark_unverified(name.repo, of.commit, file, checksum)
        if file in missing:
            _transfer(name, of.commit, file, of.files[file].size)
        verify(name, of.commit, file)
    return _path(name, of.commit, files[0])


def are_cached(name: HubName, commit: str, files: tuple[str, ...]) -> bool:
    """Return whether all of ``files`` at ``commit`` are in the cache."""
    return all(_path(name, commit, file).is_file() for file in files)


def verify(name: HubName, commit: str, file: str) -> None:
    """Verify a downloaded file's checksum, unless that was done before.

    A corrupt file is removed. Raises DownloadError.
    """
    checksum = cache.unverified(name.repo, commit, file)
    if checksum is None:
        return
    if checksum == cache.UNKNOWN:
        raise DownloadError(
            f"{file} of {name.repo} was never verified. Load it once while connected to the Hub."
        )
    path = _path(name, commit, file)
    kind, wanted = checksum.split()
    found = _digest(path, kind)
    if found != wanted:
        cache.remove(path)
        cache.unmark(name.repo, commit, file)
        raise DownloadError(
            f"{file} of {name.repo} is a corrupt download: its {kind} checksum is {found}, and the "
            f"Hub states {wanted}. The file was removed; try again."
        )
    cache.unmark(name.repo, commit, file)


def _path(name: HubName, commit: str, file: str) -> Path:
    return cache.repository_folder(name.repo) / "snapshots" / commit / file


def _check_disk(name: HubName, n_bytes: int) -> None:
    folder = cache.root()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if n_bytes and n_bytes + _SPARE_BYTES > free:
        raise DownloadError(
            f"{name} needs {n_bytes / 1e6:,.0f} MB, and {folder} has {free / 1e6:,.0f} MB free. "
            f"Free some space, choose a smaller level, or set HF_HOME to another disk."
        )


def _transfer(name: HubName, commit: str, file: str, n_bytes: int) -> None:
    from huggingface_hub import HfApi  # noqa: PLC0415

    with explained(name), _disk_full(name), transfer_bar(file, n_bytes) as advance:
        # By the revision's name rather than the commit, so that the cache records the revision.
        path = HfApi().hf_hub_download(
            name.repo, file, revision=name.revision, tqdm_class=_reporting_to(advance)
        )
    got = Path(path).parents[file.count("/")].name
    if got != commit:
        cache.mark_unverified(name.repo, got, file, cache.UNKNOWN)
        raise MovedError


def _reporting_to(advance: Callable[[float], None]) -> Any:
    """Return a class that huggingface_hub uses as its bar, and that only calls ``advance``."""
    from huggingface_hub.utils.tqdm import tqdm  # noqa: PLC0415

    class Reporter(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            advance(n or 0)
            return None

    return Reporter


@contextlib.contextmanager
def _disk_full(name: HubName) -> Iterator[None]:
    try:
        yield
    except LocalgenError:
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise DownloadError(
            f"the disk of {cache.root()} is full, so {name} could not be fetched; the incomplete "
            f"file was removed. Free some space, or set HF_HOME to another disk."
        ) from error


def _digest(path: Path, kind: str) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(b"blob %d\0" % size)
    with path.open("rb", buffering=0) as file, transfer_bar("checking", size) as advance:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            advance(len(block))
    return digest.hexdigest()
