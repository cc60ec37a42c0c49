"""Lists the models in huggingface_hub's cache, in packages and in folders; removes cached ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from localgen.errors import ModelNotFoundError
from localgen.hub import cache
from localgen.hub.catalog import catalog
from localgen.hub.levels import Model, level_of, models_of, usual_spelling
from localgen.hub.names import MAIN, HubName, parse_alias, parse_hub_name

if TYPE_CHECKING:
    from huggingface_hub import CachedFileInfo, CachedRepoInfo, CachedRevisionInfo, HFCacheInfo


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
    return [*_in_cache(), *_in_packages(), *(copy for each in folders for copy in _in_folder(each))]


def totals() -> tuple[int, int]:
    """Return the number of models in the Hub's cache, and the cache's size in bytes."""
    cached = _scan()
    return (len(_all(cached)), cached.size_on_disk) if cached else (0, 0)


def matching(name: str) -> tuple[list[LocalCopy], int]:
    """Return the cached copies that ``name`` matches, and the bytes that ``remove`` would free.

    A name without a revision matches all of them. Raises ModelNotFoundError if nothing matches.
    """
    wanted, cached = _hub_name(name), _scan()
    found = _selected(cached, wanted) if cached else []
    if not found:
        names = ", ".join(copy.name for copy in _in_cache()) or "nothing"
        raise ModelNotFoundError(f"{name} is not in {cache.root()}, which holds {names}")
    copies = [_copy(repo, revision, model) for repo, revision, model in found]
    return copies, sum(size for _, size in _freed(found).items())


def remove(name: str) -> None:
    """Remove what ``matching`` finds from the cache; other files of the repository stay."""
    wanted, cached = _hub_name(name), _scan()
    found = _selected(cached, wanted) if cached else []
    blobs = _freed(found)
    for repo, revision, model in found:
        for file in _files(revision, model):
            file.file_path.unlink(missing_ok=True)
            cache.unmark(repo.repo_id, revision.commit_hash, file.file_name)
    for blob in blobs:
        blob.unlink(missing_ok=True)
    _remove_empty(found)


def _remove_empty(found: list[_Found]) -> None:
    """Delete the revisions that hold no files any more."""
    cached = _scan()
    emptied = [revision.commit_hash for _, revision, _ in found if not _has_files(revision)]
    if cached and emptied:
        cached.delete_revisions(*set(emptied)).execute()


def _has_files(revision: CachedRevisionInfo) -> bool:
    return any(path.is_file() for path in revision.snapshot_path.rglob("*"))


def _hub_name(name: str) -> HubName | None:
    alias = parse_alias(name)
    entry = catalog().get(alias.alias.lower()) if alias else None
    if alias and entry:
        if entry.repo is None:
            raise ValueError(f"{name!r} is part of a package. Remove it with pip uninstall.")
        level = alias.level or entry.level
        return HubName(entry.repo, None, level, alias.revision or MAIN)
    return parse_hub_name(name)


def _scan() -> HFCacheInfo | None:
    from huggingface_hub import CacheNotFound, scan_cache_dir  # noqa: PLC0415

    try:
        return scan_cache_dir(cache.root())
    except CacheNotFound:
        return None


if TYPE_CHECKING:
    _Found = tuple[CachedRepoInfo, CachedRevisionInfo, Model]


def _all(cached: HFCacheInfo) -> list[_Found]:
    """Return every model of every revision, sorted by repository and file."""
    found = []
    for repo in sorted(cached.repos, key=lambda repo: repo.repo_id):
        if repo.repo_type != "model":
            continue
        # main first, then the newest.
        for revision in sorted(
            repo.revisions, key=lambda r: (MAIN not in r.refs, -r.last_modified)
        ):
            models = models_of(file.file_name for file in revision.files)
            found += [(repo, revision, model) for model in models]
    return found


def _selected(cached: HFCacheInfo, name: HubName | None) -> list[_Found]:
    if name is None:
        return []
    found = [each for each in _all(cached) if each[0].repo_id == name.repo]
    if name.revision != MAIN:
        found = [
            each
            for each in found
            if name.revision in each[1].refs or name.revision == each[1].commit_hash
        ]
    if name.file:
        return [each for each in found if name.file in each[2].files]
    if name.level:
        wanted = usual_spelling(name.level)
        return [each for each in found if each[2].level == wanted]
    return found


def _files(revision: CachedRevisionInfo, model: Model) -> list[CachedFileInfo]:
    by_name = {file.file_name: file for file in revision.files}
    return [by_name[file] for file in model.files]


def _freed(found: list[_Found]) -> dict[Path, int]:
    """Return the blobs that only these models use, with their sizes in bytes."""
    mine = {
        file.file_path: file for _, revision, model in found for file in _files(revision, model)
    }
    others = {
        file.blob_path
        for repo in {repo.repo_id: repo for repo, _, _ in found}.values()
        for revision in repo.revisions
        for file in revision.files
        if file.file_path not in mine
    }
    return {
        file.blob_path: file.size_on_disk for file in mine.values() if file.blob_path not in others
    }


def _in_cache() -> list[LocalCopy]:
    cached = _scan()
    return [_copy(*each) for each in _all(cached)] if cached else []


def _copy(repo: CachedRepoInfo, revision: CachedRevisionInfo, model: Model) -> LocalCopy:
    files = _files(revision, model)
    names = models_of(file.file_name for file in revision.files)
    only_one = model.level and sum(other.level == model.level for other in names) == 1
    ref = MAIN if MAIN in revision.refs else min(revision.refs, default=revision.commit_hash)
    name = HubName(
        repo.repo_id,
        None if only_one else model.files[0],
        model.level if only_one else None,
        ref,
    )
    return LocalCopy(
        str(name),
        model.level,
        sum(file.size_on_disk for file in files),
        max(file.blob_last_accessed for file in files),
        tuple(file.file_path for file in files),
    )


def _in_packages() -> list[LocalCopy]:
    installed = {alias: entry.package_file() for alias, entry in catalog().items()}
    return [
        LocalCopy(alias, level_of(path.name), path.stat().st_size, path.stat().st_atime, (path,))
        for alias, path in installed.items()
        if path is not None
    ]


def _in_folder(folder: Path) -> list[LocalCopy]:
    if not folder.is_dir():
        raise ModelNotFoundError(f"the folder {folder} does not exist")
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*.gguf")]
    copies = []
    for model in models_of(files):
        paths = tuple(folder / file for file in model.files)
        stats = [path.stat() for path in paths]
        copies.append(
            LocalCopy(
                str(paths[0]),
                model.level,
                sum(each.st_size for each in stats),
                max(each.st_atime for each in stats),
                paths,
            )
        )
    return copies
