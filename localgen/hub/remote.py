"""Lists repositories on the Hub, and fetches and verifies their files.

huggingface_hub does the transfer, with its cache, tokens, retries, resumption, xet and HF_ENDPOINT.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localgen._util.warn import warn
from localgen.errors import DownloadError, LocalgenError
from localgen.hub import cache
from localgen.hub.bars import transfer_bar
from localgen.hub.failures import (
    NotFetchedError,
    explained,
    missing_repository,
    missing_revision,
)
from localgen.hub.names import HubName, why_unsafe
from localgen.hub.settings import settings

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

logger = logging.getLogger("localgen.hub")
_BLOCK_BYTES = 2**20
_KINDS = {"sha256": "sha256 checksum", "git": "git checksum", "size": "size"}
_WEAK = {
    "size": "only its size is verified: the server states no checksum",
    "unstated": "it is not verified: the server states neither size nor checksum",
}
# Disk space left free for other programs.
_SPARE_BYTES = 2**24


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file's size in bytes and its checksum; mirrors may state neither.

    checksum: "sha256 HEX", "git HEX" if it is not in LFS, or "size N" if only that is known.
    """

    size: int | None
    checksum: str | None


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
    with explained(name):
        from huggingface_hub import HfApi, errors  # noqa: PLC0415

        api = HfApi()
        try:
            info = _model_info(api, name)
        except errors.RevisionNotFoundError as error:
            raise missing_revision(api, name) from error
        except errors.GatedRepoError:
            raise
        except errors.RepositoryNotFoundError as error:
            raise missing_repository(name) from error
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
        files[file] = _remote_file(sibling)
    if not info.sha:
        raise DownloadError(f"the Hub's answer for {name} names no commit")
    return Listing(info.sha, files)


def _model_info(api: HfApi, name: HubName) -> ModelInfo:
    """Return what the Hub says of a repository; of its files at least the names."""
    for with_metadata in (True, False):  # a mirror's metadata may lack what huggingface_hub reads
        with contextlib.suppress(KeyError, TypeError):
            return api.model_info(
                name.repo,
                revision=name.revision,
                files_metadata=with_metadata,
                timeout=settings().HF_HUB_ETAG_TIMEOUT,
            )
    raise DownloadError(f"the answer for {name} is not a listing as the Hub sends them")


def file_size(name: HubName, of: Listing, file: str) -> int:
    """Return a file's size in bytes, with a request if the listing lacks it.

    Raises DownloadError.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url  # noqa: PLC0415

    size = of.files[file].size
    if size is None:
        with explained(name):
            size = get_hf_file_metadata(hf_hub_url(name.repo, file, revision=of.commit)).size
    if size is None:
        raise DownloadError(f"the server does not state the size of {file} of {name.repo}")
    return size


def _remote_file(sibling: RepoSibling) -> RemoteFile:
    """Return what the Hub, or a mirror, states of a file."""
    size, checksum = sibling.size, None
    if sibling.lfs and sibling.lfs.sha256:
        checksum = f"sha256 {sibling.lfs.sha256}"
    elif sibling.blob_id and not sibling.lfs:
        checksum = f"git {sibling.blob_id}"
    elif size is not None:
        checksum = f"size {size}"
    return RemoteFile(size, checksum)


def download(name: HubName, of: Listing, files: tuple[str, ...]) -> Path:
    """Fetch and verify those of ``files`` that are not cached; return the first one's path.

    Raises DownloadError and MovedError.
    """
    with _storing(name):
        _download(name, of, files)
    return _path(name, of.commit, files[0])


def _download(name: HubName, of: Listing, files: tuple[str, ...]) -> None:
    missing = [file for file in files if not _is_cached(name, of, file)]
    _check_disk(name, sum(of.files[file].size or 0 for file in missing))
    for file in files:
        wanted = of.files[file]
        if file in missing:
            _remove_damaged(_path(name, of.commit, file), wanted)
        # If the process is killed after the transfer, the file must not count as verified.
        if file in missing or cache.unverified(name.repo, of.commit, file):
            cache.mark_unverified(name.repo, of.commit, file, wanted.checksum or cache.UNSTATED)
        if file in missing:
            _transfer(name, of.commit, file, wanted.size or 0)
        verify(name, of.commit, file)


def are_cached(name: HubName, of: Listing, files: tuple[str, ...]) -> bool:
    """Return whether all of ``files`` are whole in the cache."""
    return all(_is_cached(name, of, file) for file in files)


def _is_cached(name: HubName, of: Listing, file: str) -> bool:
    """Return whether a file is in the cache with the size that the Hub states."""
    path, size = _path(name, of.commit, file), of.files[file].size
    return path.is_file() and (size is None or path.stat().st_size == size)


def _remove_damaged(path: Path, wanted: RemoteFile) -> None:
    """Remove a cached file of another size, which huggingface_hub would keep.

    Raises DownloadError.
    """
    if not path.is_file():
        return
    sizes = f"{path.stat().st_size} bytes in the cache, and {wanted.size} on the Hub"
    logger.warning("%s has %s: it is fetched again", path.name, sizes)
    try:
        cache.remove(path)
    except OSError as error:
        raise DownloadError(
            f"{path} has {sizes}, and cannot be replaced: {error.strerror}. Remove it, or set "
            f"HF_HUB_CACHE to another folder."
        ) from error


def verify(name: HubName, commit: str, file: str) -> None:
    """Verify a downloaded file's checksum, unless that was done before.

    A corrupt file is removed. In a read-only cache, a file is verified each time. Raises
    DownloadError.
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
    found = wanted if checksum == cache.UNSTATED else _digest(path, kind)
    if found != wanted:
        advice = "The file was removed; try again"
        try:
            cache.remove(path)
            cache.unmark(name.repo, commit, file)
        except OSError as error:
            advice = f"Remove {path}, which failed here ({error.strerror}), and try again"
        raise DownloadError(
            f"{file} of {name.repo} is a corrupt download: its {_KINDS[kind]} is {found}, and the "
            f"Hub states {wanted}. {advice}."
        )
    if kind in _WEAK:
        warn(f"{file} of {name.repo}: {_WEAK[kind]}")
    with contextlib.suppress(OSError):
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

    with explained(name), transfer_bar(file, n_bytes) as advance:
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
def _storing(name: HubName) -> Iterator[None]:
    """Turn errors of the disk inside the block into a DownloadError with advice."""
    try:
        yield
    except LocalgenError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DownloadError(
                f"the disk of {cache.root()} is full, so {name} could not be fetched; the "
                f"incomplete file was removed. Free some space, or set HF_HOME to another disk."
            ) from error
        raise NotFetchedError(
            f"{name} could not be stored in {cache.root()}: {error.strerror or error}. Set "
            f"HF_HOME or HF_HUB_CACHE to a folder that you may write to."
        ) from error


def _digest(path: Path, kind: str) -> str:
    size = path.stat().st_size
    if kind == "size":
        return str(size)
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(b"blob %d\0" % size)
    with path.open("rb", buffering=0) as file, transfer_bar("checking", size) as advance:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            advance(len(block))
    return digest.hexdigest()
