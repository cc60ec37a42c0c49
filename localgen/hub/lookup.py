"""Finds the file that a name means, on the disk or on the Hub, and fetches it if asked to."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from localgen._util.format import either
from localgen._util.home import expand_user
from localgen._util.suggestions import similar_names
from localgen._util.warn import warn
from localgen.errors import DownloadError, InvalidGGUFError, ModelNotFoundError
from localgen.hub import cache, catalog, headers, names
from localgen.hub.levels import DEFAULT_LEVEL, KindOf, choose, usual_spelling
from localgen.hub.names import HubName
from localgen.hub.ranges import RemoteModel
from localgen.hub.settings import settings

Found = TypeVar("Found")

logger = logging.getLogger("localgen.hub")
_MOST_MOVES = 3
_MOST_SHOWN = 100  # characters of a path


def resolve(
    source: str | os.PathLike[str], *, revision: str | None = None, local_files_only: bool = False
) -> Path:
    """Return the GGUF file that ``source`` means; of a split model, the first shard.

    source: an alias of the catalogue, a path, "org/repo", "org/repo:LEVEL" or
    "org/repo/file.gguf"; all but paths may end in "@revision". Without a level, Q4_K_M is used, or
    the nearest one available, with a warning. local_files_only: use only what is on the disk;
    HF_HUB_OFFLINE=1 does the same.
    Raises ModelNotFoundError, DownloadError, InvalidGGUFError for a folder, and ValueError for an
    invalid name.
    """
    found = _meaning(source, revision)
    return found if isinstance(found, Path) else _from_hub(*found, local_files_only, _fetch)


def locate(source: str | os.PathLike[str]) -> Path | RemoteModel:
    """Resolve ``source`` without fetching it: return its path, or where it is on the Hub."""
    found = _meaning(source, None)
    return found if isinstance(found, Path) else _from_hub(*found, False, _look_up)


def absolute_name(source: str | os.PathLike[str]) -> str:
    """Return ``source`` as a process in another folder finds it: the path of a file that is there
    becomes absolute, and other names stay as they are."""
    if isinstance(source, str):
        alias = names.parse_alias(source)
        is_alias = alias is not None and alias.alias.lower() in catalog.catalog()
        if is_alias or not _exists(_expanded(source)):
            return source
    return os.path.abspath(_expanded(Path(source)))


def _meaning(source: str | os.PathLike[str], revision: str | None) -> Path | tuple[HubName, str]:
    """Return a local file, or a name on the Hub and its default level."""
    if not isinstance(source, str):
        return _existing(Path(source), revision)
    if not source.strip():
        raise ValueError("the name of the model is empty: pass a .gguf file, org/repo or an alias")
    alias = names.parse_alias(source)
    entry = catalog.catalog().get(alias.alias.lower()) if alias else None
    if alias and entry:
        wanted = names.one_revision(source, alias.revision, revision)
        if entry.repo is None:
            if wanted or alias.level:
                raise ValueError(
                    f"{alias.alias!r} is a single installed file, without other levels or revisions"
                )
            return catalog.installed_file(alias.alias, entry)
        name = HubName(entry.repo, None, alias.level, wanted or names.MAIN)
        return name, entry.level or DEFAULT_LEVEL
    if _exists(_expanded(source)):
        return _existing(Path(source), revision)
    hub_name = names.parse_hub_name(source, revision)
    if hub_name is None:
        raise ModelNotFoundError(_not_found(source))
    return hub_name, DEFAULT_LEVEL


def _existing(path: Path, revision: str | None) -> Path:
    path = _expanded(path)
    if not _exists(path):
        raise ModelNotFoundError(_not_found(str(path)))
    if revision is not None:
        raise ValueError(
            f"revision={revision!r} applies to a name on the Hub, but {path} is a local file"
        )
    if path.is_dir():
        raise InvalidGGUFError(f"{path} is a folder; pass the .gguf file inside it")
    return path


def _expanded(source: str | Path) -> Path:
    try:
        return expand_user(source)
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"{source} cannot be found: {error.strerror}.") from error


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        shown = str(path)[:_MOST_SHOWN]
        raise ModelNotFoundError(f"{shown} cannot be looked up: {error.strerror}") from error


def _not_found(source: str) -> str:
    near = similar_names(source, catalog.catalog())
    hint = f"; did you mean {either(near)}?" if near else "."
    message = (
        f"there is no file or alias {source}{hint} Pass the path of a .gguf file, a repository on "
        f"the Hub (org/name or org/name:Q4_K_M), or an alias (`localgen models aliases` lists them)"
    )
    for alias in near:
        entry = catalog.catalog()[alias]
        if entry.install and entry.package_file() is None:
            message += f". To install {alias}: {entry.install}"
    return message


def _from_hub(
    name: HubName,
    default: str,
    local_files_only: bool,
    ask: Callable[[HubName, str], Found],
) -> Path | Found:
    """Return the cached file if that is enough, else what ``ask`` gets from the Hub."""
    from localgen.hub.failures import NotFetchedError  # noqa: PLC0415

    if local_files_only or settings().HF_HUB_OFFLINE:
        return _from_cache(name, default)
    if name.is_pinned:  # a commit's files never change
        try:
            return _from_cache(name, default, only_exact=True)
        except (ModelNotFoundError, DownloadError):
            pass  # not cached: fetch it
    try:
        return ask(name, default)
    except NotFetchedError as error:
        try:
            path = _from_cache(name, default)
        except (ModelNotFoundError, DownloadError):
            # The name may be a mistyped path.
            message = f"there is no local file {name}, and {error}"
            raise NotFetchedError(message) from error.__cause__
        logger.warning("%s Using the cached copy.", error)
        return path


def _fetch(name: HubName, default: str) -> Path:
    from localgen.hub import remote  # noqa: PLC0415

    for _ in range(_MOST_MOVES):
        listing = remote.listing(name)
        model = _chosen(name, tuple(listing.files), default, headers.on_the_hub(name, listing))
        try:
            return remote.download(name, listing, model)
        except remote.MovedError:
            logger.info("%s changed during the download; fetching the new version", name)
    raise DownloadError(
        f"{name} keeps changing during the download. Name a commit: {name.repo}@COMMIT"
    )


def _look_up(name: HubName, default: str) -> Path | RemoteModel:
    from localgen.hub import remote  # noqa: PLC0415

    listing = remote.listing(name)
    files = _chosen(name, tuple(listing.files), default, headers.on_the_hub(name, listing))
    if remote.are_cached(name, listing, files):
        return remote.download(name, listing, files)
    sizes = tuple((file, remote.file_size(name, listing, file)) for file in files)
    return RemoteModel(name, listing.commit, sizes)


def _from_cache(name: HubName, default: str, *, only_exact: bool = False) -> Path:
    from localgen.hub import remote  # noqa: PLC0415

    found = cache.snapshot(name)
    if found is None or not found.files:
        raise ModelNotFoundError(
            f"{name} is not in {cache.root()}, and only local files are used (HF_HUB_OFFLINE, or "
            f"local_files_only=True in Python). Fetch it once with: localgen models pull {name}"
        )
    kind_of = headers.on_the_disk(found.folder)
    if only_exact:
        model = choose(found.files, name, default, kind_of).model
        if not name.file and model.level != usual_spelling(name.level or default):
            raise ModelNotFoundError(f"{name} is not in the cache")
        files = model.files
    else:
        files = _chosen(name, found.files, default, kind_of)
    for file in files:
        remote.verify(name, found.folder.name, file)
    return found.folder / files[0]


def _chosen(
    name: HubName, files: tuple[str, ...], default: str, kind_of: KindOf
) -> tuple[str, ...]:
    """Return the files of the model that ``name`` means; log which, if the name does not say."""
    choice = choose(files, name, default, kind_of)
    if choice.note:
        warn(choice.note)
    elif not (name.file or name.level):
        logger.info("%s: %s", name.repo, choice.model.files[0])
    return choice.model.files
