"""Folders on any filesystem that pyarrow or fsspec knows: list, read, write whole, append."""

from __future__ import annotations

import io
import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.fs

from localgen.errors import JobError


def find_filesystem(location: str) -> tuple[Any, str]:
    """Return the pyarrow filesystem of a path or URI, and the path in it.

    Raises JobError for a scheme that neither pyarrow nor fsspec knows.
    """
    if "://" not in location:
        return pyarrow.fs.LocalFileSystem(), Path(os.path.abspath(location)).as_posix()
    try:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(location)
        return filesystem, path
    except (ValueError, OSError):  # a scheme of fsspec's, perhaps
        pass
    try:
        import fsspec.core  # noqa: PLC0415

        found, path = fsspec.core.url_to_fs(location)
    except (ValueError, ImportError) as error:
        raise JobError(f"{location} cannot be opened: {error}") from None
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(found)), path


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder; ``can_append`` says whether a file in it can grow while others see it."""

    filesystem: Any
    path: str

    @classmethod
    def at(cls, location: str) -> Folder:
        """Return the folder of a path or URI, which is made if there is none."""
        filesystem, path = find_filesystem(location)
        filesystem.create_dir(path, recursive=True)
        return cls(filesystem, path.rstrip("/"))

    @property
    def can_append(self) -> bool:
        return isinstance(self.filesystem, pyarrow.fs.LocalFileSystem)

    def names(self, suffix: str) -> list[str]:
        """Return the names of the files that end so, sorted."""
        infos = self.filesystem.get_file_info(pyarrow.fs.FileSelector(self.path))
        is_file = pyarrow.fs.FileType.File
        return sorted(
            each.base_name
            for each in infos
            if each.type == is_file and each.base_name.endswith(suffix)
        )

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file; the last one may lack its end."""
        with self.filesystem.open_input_stream(self._path(name)) as stream:
            yield from io.BufferedReader(stream)

    def read(self, name: str) -> bytes | None:
        """Return a file; None if there is none."""
        try:
            with self.filesystem.open_input_stream(self._path(name)) as stream:
                data: bytes = stream.read()
        except FileNotFoundError:
            return None
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a file as a whole: whoever reads it sees the old or the new one."""
        target = self._path(name)
        if not self.can_append:  # an object appears when it is whole
            with self.filesystem.open_output_stream(target) as stream:
                stream.write(data)
            return
        temporary = f"{target}.new"
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)

    def open_to_append(self, name: str) -> BinaryIO:
        """Open a new file that grows by each write; only where ``can_append``."""
        return open(self._path(name), "xb", buffering=0)

    def _path(self, name: str) -> str:
        return posixpath.join(self.path, name)
