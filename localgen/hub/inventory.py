"""Lists the models in huggingface_hub's cache, in packages and in folders; removes cached ones."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from localgen._util.warn import warn
from localgen.errors import ModelNotFoundError
from localgen.hub import cache, headers
from localgen.hub.cache import CachedFile, Revision
from localgen.hub.catalog import catalog
from localgen.hub.levels import (
    Model,
    grouped,
    is_gguf,
    level_of,
    models_of,
    of_level,
    usual_spelling,
    without_companions,
)
from localgen.hub.names import MAIN, HubName, parse_alias, parse_hub_name


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """A model on this machine.

    name: what ``from_pretrained`` accepts. n_bytes: of all shards. last_used: the file's last
    access, in seconds since the epoch, as exact as the file system records it. files: the shards in
    order.
    """

    name: str
    level: str | None
    n_bytes: int
    last_used: float
    files: tuple[Path, ...]


def on_this_machine(folders: Iterable[Path] = ()) -> list[LocalCopy]:
    """Return the models in the Hub's cache, in packages of the catalogue, and in ``folders``.

    Raises ModelNotFoundError for a folder that does not exist.
    """
    found = [*_in_cache(), *_in_packages()]
    for folder in folders:
        found += _in_folder(folder)
    # A folder may be named twice, lie in another one, or be the cache itself.
    places = {copy.files[0].parent.resolve() / copy.files[0].name: copy for copy in found[::-1]}
    return list(places.values())[::-1]


def totals() -> tuple[int, int]:
    """Return the number of models in the Hub's cache, and the cache's size in bytes."""
    return len(_all()), cache.size_on_disk()


def matching(name: str) -> tuple[list[LocalCopy], int]:
    """Return the cached copies that ``name`` matches, and the bytes that ``remove`` would free.

    A name without a revision matches all of them. Raises ModelNotFoundError if nothing matches.
    """
    found = _selected(_hub_name(name))
    if not found:
        names = ", ".join(copy.name for copy in _in_cache()) or "nothing"
        raise ModelNotFoundError(f"{name} is not in {cache.root()}, which holds {names}")
    return [_copy(*each) for each in found], sum(_freed(found).values())


def remove(name: str) -> None:
    """Remove what ``matching`` finds from the cache; other files of the repository stay."""
    found = _selected(_hub_name(name))
    blobs = _freed(found)
    for revision, model in found:
        for file in model.files:
            revision.files[file].path.unlink(missing_ok=True)
            cache.unmark(revision.repo, revision.commit, file)
    for blob in blobs:
        blob.unlink(missing_ok=True)
    for revision in {revision.folder: revision for revision, _ in found}.values():
        if not any(path.is_file() for path in revision.folder.rglob("*")):
            cache.remove_revision(revision)


def _hub_name(name: str) -> HubName | None:
    alias = parse_alias(name)
    entry = catalog().get(alias.alias.lower()) if alias else None
    if alias and entry:
        if entry.repo is None:
            raise ValueError(f"{name!r} is part of a package. Remove it with pip uninstall.")
        level = alias.level or entry.level
        return HubName(entry.repo, None, level, alias.revision or MAIN)
    return parse_hub_name(name)


_Found = tuple[Revision, Model]


def _all() -> list[_Found]:
    """Return every model of every cached revision, sorted by repository and file."""
    return [(revision, model) for revision in cache.revisions() for model in _models(revision)]


def _models(revision: Revision) -> list[Model]:
    return without_companions(models_of(revision.files), headers.on_the_disk(revision.folder))


def _selected(name: HubName | None) -> list[_Found]:
    if name is None:
        return []
    revisions = cache.revisions(name.repo)
    if name.revision != MAIN:
        revisions = [each for each in revisions if name.revision in (*each.refs, each.commit)]
    found = []
    for revision in revisions:
        if name.file:  # whatever it is
            models = [model for model in grouped(revision.files) if name.file in model.files]
        elif name.level:
            models = of_level(_models(revision), usual_spelling(name.level))
        else:
            models = _models(revision)
        found += [(revision, model) for model in models]
    return found


def _files(revision: Revision, model: Model) -> list[CachedFile]:
    return [revision.files[file] for file in model.files]


def _freed(found: list[_Found]) -> dict[Path, int]:
    """Return the blobs that only these models use, with their sizes in bytes."""
    mine = {file.path: file for each in found for file in _files(*each)}
    others = {
        file.blob
        for repo in {revision.repo for revision, _ in found}
        for revision in cache.revisions(repo)
        for file in revision.files.values()
        if file.path not in mine
    }
    return {file.blob: file.n_bytes for file in mine.values() if file.blob not in others}


def _in_cache() -> list[LocalCopy]:
    return [_copy(*each) for each in _all()]


def _copy(revision: Revision, model: Model) -> LocalCopy:
    files = _files(revision, model)
    levels = [other.level for other in _models(revision)]
    is_only_one = model.level is not None and levels.count(model.level) == 1
    ref = MAIN if MAIN in revision.refs else min(revision.refs, default=revision.commit)
    name = HubName(
        revision.repo,
        None if is_only_one else model.files[0],
        model.level if is_only_one else None,
        ref,
    )
    return LocalCopy(
        str(name),
        model.level,
        sum(file.n_bytes for file in files),
        max(file.last_used for file in files),
        tuple(file.path for file in files),
    )


def _in_packages() -> list[LocalCopy]:
    installed = {alias: entry.package_file() for alias, entry in catalog().items()}
    return [
        LocalCopy(alias, level_of(path.name), path.stat().st_size, path.stat().st_atime, (path,))
        for alias, path in installed.items()
        if path is not None
    ]


def _in_folder(folder: Path) -> Iterator[LocalCopy]:
    if not folder.is_dir():
        raise ModelNotFoundError(f"the folder {folder} does not exist")
    stats = dict(_gguf_files(folder))
    for model in without_companions(models_of(stats), headers.on_the_disk(folder)):
        found = [stats[file] for file in model.files]
        paths = tuple(folder / file for file in model.files)
        yield LocalCopy(
            str(paths[0]),
            model.level,
            sum(each.st_size for each in found),
            max(each.st_atime for each in found),
            paths,
        )


def _gguf_files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the GGUF files in a folder, relative to it; name what cannot be examined."""

    def skip(error: OSError) -> None:
        warn(f"{error.filename} is skipped: {error.strerror}.")

    for place, _, files in os.walk(folder, onerror=skip):
        for file in filter(is_gguf, files):
            path = Path(place, file)
            try:
                found = path.stat()
            except OSError as error:  # a link to nothing or to itself
                skip(error)
                continue
            if stat.S_ISREG(found.st_mode):
                yield path.relative_to(folder).as_posix(), found
