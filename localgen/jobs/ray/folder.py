"""Folders on any filesystem that pyarrow or fsspec knows: list, read, write whole, append."""

from __future__ import annotations

import io
import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow
import pyarrow.fs

from localgen._util import file_lock
from localgen.errors import JobError

# The settings of the job whose results a folder holds.
MANIFEST = "manifest.json"
_LOCK = "job.lock"


@contextmanager
def file_errors(name: str, what: str) -> Iterator[None]:
    """Raise the errors of a filesystem as a JobError: ``name`` cannot be ``what``."""
    try:
        yield
    except (OSError, UnicodeError, pyarrow.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise JobError(f"{name} cannot be {what}: {reason.rstrip('.')}.") from error


def absolute(location: str) -> str:
    """Return a path or URI as processes in other folders understand it."""
    return location if "://" in location else os.path.abspath(location)


def find_filesystem(location: str) -> tuple[Any, str]:
    """Return the pyarrow filesystem of a path or URI, and the path in it.

    Raises JobError for a scheme that neither pyarrow nor fsspec knows.
    """
    if "://" not in location:
        return pyarrow.fs.LocalFileSystem(), Path(os.path.abspath(location)).as_posix()
    try:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(location)
        return filesystem, path
    except (ValueError, OSError) as error:  # a scheme of fsspec's, perhaps
        of_pyarrow = error
    try:
        import fsspec.core  # noqa: PLC0415

        found, path = fsspec.core.url_to_fs(location)
    except (ValueError, ImportError, OSError) as error:
        # Pyarrow's own schemes give OSError, such as for a bucket that it cannot reach.
        reason = of_pyarrow if isinstance(of_pyarrow, OSError) else error
        raise JobError(
            f"{location} cannot be opened: {str(reason).rstrip('.')}. Check the address, the "
            f"network and the credentials."
        ) from None
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(found)), path


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder; ``can_append`` says whether a file in it can grow while others see it."""

    filesystem: Any
    path: str

    @classmethod
    def at(cls, location: str) -> Folder:
        """Return the folder of a path or URI, which is made if there is none. Raises JobError."""
        filesystem, path = find_filesystem(location)
        with file_errors(location, "used as a folder"):
            filesystem.create_dir(path, recursive=True)
        return cls(filesystem, path.rstrip("/"))

    @classmethod
    def existing(cls, location: str) -> Folder:
        """Return the folder of a path or URI. Raises JobError if there is none."""
        filesystem, path = find_filesystem(location)
        with file_errors(location, "read"):
            info = filesystem.get_file_info(path)
        if info.type != pyarrow.fs.FileType.Directory:
            raise JobError(f"there is no folder {location}. Give the folder of a job's results.")
        return cls(filesystem, path.rstrip("/"))

    @property
    def can_append(self) -> bool:
        return isinstance(self.filesystem, pyarrow.fs.LocalFileSystem)

    def names(self, suffix: str) -> list[str]:
        """Return the names of the files that end so, sorted."""
        with file_errors(self.path, "listed"):
            infos = self.filesystem.get_file_info(pyarrow.fs.FileSelector(self.path))
        is_file = pyarrow.fs.FileType.File
        return sorted(
            each.base_name
            for each in infos
            if each.type == is_file and each.base_name.endswith(suffix)
        )

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file; the last one may lack its end."""
        with (
            file_errors(self._path(name), "read"),
            self.filesystem.open_input_stream(self._path(name)) as stream,
        ):
            yield from io.BufferedReader(stream)

    def read(self, name: str) -> bytes | None:
        """Return a file; None if there is none."""
        with file_errors(self._path(name), "read"):
            try:
                with self.filesystem.open_input_stream(self._path(name)) as stream:
                    data: bytes = stream.read()
            except FileNotFoundError:
                return None
            return data

    def write(self, name: str, data: bytes) -> None:
        """Write a file as a whole: whoever reads it sees the old or the new one."""
        with file_errors(self._path(name), "written"):
            self._write(self._path(name), data)

    def _write(self, target: str, data: bytes) -> None:
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
        with file_errors(self._path(name), "written"):
            return open(self._path(name), "xb", buffering=0)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other jobs from the folder for the block, where its filesystem has locks.

        Raises JobError if another process has it.
        """
        if not self.can_append:
            yield
            return
        with file_errors(self._path(_LOCK), "written"):
            file = open(self._path(_LOCK), "ab")  # noqa: SIM115  # it is closed below
        with file:
            if not file_lock.lock(file):
                raise JobError(
                    f"another job is writing to {self.path}. Wait until it ends, or choose another "
                    f"output folder."
                )
            yield

    def _path(self, name: str) -> str:
        return posixpath.join(self.path, name)
