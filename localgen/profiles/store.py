"""Keeps measurements of a model on this machine as JSON files; it does not know what they mean.

A model has a folder, and each (kind, machine, build, state of the model file) a file in it. So a
home folder can be shared by machines, and nothing is locked: a file is replaced as a whole. Broken
or foreign files, and folders that cannot be written, are logged and otherwise ignored: a model
loads without its measurements.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localgen._util import system
from localgen._util.atomic_write import atomic_write_bytes
from localgen._util.home import path_from_environment
from localgen._util.json_text import read_json
from localgen._util.user_folders import cache_folder

logger = logging.getLogger("localgen.profiles")

FOLDER_VARIABLE = "LOCALGEN_PROFILES"
# Of the files' form; those of other versions are not used.
_SCHEMA = 1
_MAX_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class ProfileKey:
    """What a measurement holds for.

    model: the absolute path of the model's first file. contents: the size and the time of the last
    change of each of its files. machine: processor, usable CPUs, platform. build: of llama.cpp.
    """

    model: str
    contents: str
    machine: str
    build: str

    @classmethod
    def of(cls, paths: Sequence[Path], build: str) -> ProfileKey:
        """Return the key of a model's files on this machine. Raises OSError; it reads no file."""
        found = [path.stat() for path in paths]
        return cls(
            model=os.path.realpath(paths[0]),
            contents=" ".join(f"{each.st_size}:{each.st_mtime_ns}" for each in found),
            machine=this_machine(),
            build=build,
        )


def this_machine() -> str:
    """Return the processor's name, the CPUs that this process may use, and the platform."""
    n_cpus = system.usable_cpus()
    return f"{system.cpu_name()}, {n_cpus} CPUs, {platform.system()} {platform.machine()}"


def profiles_folder() -> Path | None:
    """Return the folder of all measurements: ``LOCALGEN_PROFILES``, or one in the user's cache.

    It may not exist. None without a home folder, and if the variable is set to nothing.
    """
    if FOLDER_VARIABLE in os.environ:
        try:
            return path_from_environment(FOLDER_VARIABLE)
        except FileNotFoundError as error:
            logger.info("%s is ignored: %s", FOLDER_VARIABLE, error.strerror)
            return None
    folder = cache_folder()
    return folder / "profiles" if folder else None


def load(key: ProfileKey, kind: str) -> dict[str, Any] | None:
    """Return what was saved for this key and kind; None if there is nothing usable."""
    path = _path(key, kind)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES)
    except FileNotFoundError:
        _log_others(path, kind)
        return None
    except OSError as error:
        logger.warning("%s cannot be read and is ignored: %s", path, error.strerror)
        return None
    data = _data(text, key, kind)
    if data is None:
        logger.warning("%s is damaged, or of another version of localgen, and is ignored", path)
    return data


def save(key: ProfileKey, kind: str, data: dict[str, Any]) -> Path | None:
    """Save ``data``, which JSON can hold, and return its file; None if it cannot be written."""
    path = _path(key, kind)
    if path is None:
        logger.info("there is no folder for measurements: set HOME, or %s", FOLDER_VARIABLE)
        return None
    try:
        atomic_write_bytes(path, _text(key, kind, data))
    except OSError as error:
        logger.info("%s cannot be written: %s", path, error.strerror)
        return None
    return path


def count(model: Path, kind: str) -> int:
    """Return how many files a model has of a kind, whichever machine and build they are of."""
    folder = profiles_folder()
    if folder is None:
        return 0
    return len([*(folder / _digest(os.path.realpath(model))).glob(f"{kind}-*.json")])


def forget(key: ProfileKey, kind: str) -> int:
    """Remove all files of a model and kind, of other machines and builds too; return how many.

    Raises OSError.
    """
    path = _path(key, kind)
    found = [] if path is None else sorted(path.parent.glob(f"{kind}-*.json"))
    for each in found:
        each.unlink(missing_ok=True)
    return len(found)


def _path(key: ProfileKey, kind: str) -> Path | None:
    folder = profiles_folder()
    if folder is None:
        return None
    name = f"{kind}-{_digest(key.contents, key.machine, key.build)}.json"
    return folder / _digest(key.model) / name


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _text(key: ProfileKey, kind: str, data: dict[str, Any]) -> bytes:
    return json.dumps(_header(key, kind) | {"data": data}, indent=1).encode()


def _header(key: ProfileKey, kind: str) -> dict[str, object]:
    """Return what a file says of itself, which people read and ``load`` checks."""
    return {
        "localgen_profile": _SCHEMA,
        "kind": kind,
        "model": key.model,
        "contents": key.contents,
        "machine": key.machine,
        "build": key.build,
    }


def _data(text: bytes, key: ProfileKey, kind: str) -> dict[str, Any] | None:
    """Return the data of a file's ``text``; None if it is not one for this key and kind."""
    try:
        found = read_json(text)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    data = found.pop("data", None)
    return data if found == _header(key, kind) and isinstance(data, dict) else None


def _log_others(path: Path, kind: str) -> None:
    """Log that there are measurements, but of another machine, build or state of the file."""
    others = sorted(path.parent.glob(f"{kind}-*.json"))
    if others:
        logger.info(
            "%s in %s is not used: it was measured on another machine, with another build of "
            "llama.cpp, or before the model file changed",
            others[0].name,
            path.parent,
        )
