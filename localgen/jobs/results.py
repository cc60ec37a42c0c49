"""A job's output: a header, then a record a row, each written whole as soon as it is there.

It knows files and JSON, not models. Each record goes to the operating system at once, so that a
process that is killed loses none; ``SYNC_SECONDS`` is what a machine that loses power may cost.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

from localgen._version import __version__
from localgen.config import GenerationConfig, ModelConfig
from localgen.errors import JobError
from localgen.gguf.fingerprint import fingerprint
from localgen.jobs.rows import RowId

try:
    import fcntl
except ImportError:  # Windows has none; there, nothing keeps a second process away
    fcntl = None  # type: ignore[assignment]

Record = dict[str, Any]

FORMAT = 1
SYNC_SECONDS = 5.0
_BEGINNING = b'{"localgen_batch": '
# They change how fast rows come, or whether the model loads, not what was asked for: a job that ran
# out of memory may go on with fewer sequences.
_NOT_ASKED_FOR = ("n_threads", "n_batch", "max_sequences", "kv_budget", "check_memory")
_START_OVER = "choose another output file, or start over with --overwrite."


def make_header(
    model: Path, loading: ModelConfig, defaults: GenerationConfig, **options: Any
) -> Record:
    """What a job must know to be repeated; its seed is fresh where ``defaults`` has none."""
    packages = {name: version(name) for name in ("llama-cpp-python", "numpy")}
    header = {
        "localgen_batch": FORMAT,
        "model": {
            "file": model.name,
            "size": model.stat().st_size,
            "fingerprint": fingerprint(model),
        },
        "versions": {
            "localgen": __version__,
            **packages,
            "python": ".".join(map(str, sys.version_info[:3])),
        },
        "model_options": dataclasses.asdict(loading),
        "generation_options": {**dataclasses.asdict(defaults), **options},
        "seed": secrets.randbits(53) if defaults.seed is None else defaults.seed,
    }
    return json.loads(json.dumps(header))  # type: ignore[no-any-return]  # as it is read back


@dataclass(frozen=True, slots=True)
class Done:
    """A row that needs nothing more: its id, and the hash of the line that asked for it."""

    id: RowId
    line_hash: str


@dataclass(slots=True)
class Found:
    """What an output file holds. ``end``: its length in bytes, without a line that is torn.

    failed: the last record of each line that ended in an error.
    """

    header: Record | None = None
    done: dict[int, Done] = field(default_factory=dict)
    failed: dict[int, Record] = field(default_factory=dict)
    end: int = 0


class Results:
    """An output that records are added to. ``found`` is what it holds already.

    Nothing is changed before ``begin()``.
    """

    def __init__(self, file: BinaryIO, header: Record, found: Found | None = None) -> None:
        self._file = file
        self._is_file = found is not None
        self._synced_at = time.monotonic()
        self.found = found or Found()
        self.header = self.found.header or header

    @property
    def seed(self) -> int:
        """The run's."""
        return int(self.header["seed"])

    def begin(self) -> None:
        """Cut off what is torn, and write the header where there is none."""
        if self._is_file:
            self._file.seek(self.found.end)
            self._file.truncate()
        if self.found.header is None:
            self.write(self.header)

    def write(self, record: Record) -> None:
        """Add a record."""
        data = memoryview((json.dumps(record, ensure_ascii=False) + "\n").encode())
        while data:  # an unbuffered file may take a part only
            data = data[self._file.write(data) :]
        self._file.flush()
        if self._is_file and time.monotonic() - self._synced_at > SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Have what was written on the disk, where it is safe from a loss of power."""
        if self._is_file:
            os.fsync(self._file.fileno())
            self._synced_at = time.monotonic()


@contextmanager
def open_results(path: str, header: Record, *, overwrite: bool = False) -> Iterator[Results]:
    """The results at ``path``, locked; "-" is stdout.

    A file that has some of this very job's results is gone on with. Anything but a regular file
    is written to only. Raises JobError for another job's file, or if another process writes there.
    """
    if path == "-":
        yield Results(sys.stdout.buffer, header)
        return
    with _open(path) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            yield Results(file, header)
            return
        _lock(file, path)
        found = Found() if overwrite else _read(path)
        if found.header is not None:
            _check_same(found.header, header, path)
        yield Results(file, header, found)


def _open(path: str) -> BinaryIO:
    """A file to write to, made if need be and left as it is; unbuffered."""
    return open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666), "wb", buffering=0)


def _lock(file: BinaryIO, path: str) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise JobError(
            f"{path} is being written by another process. Wait until it has finished."
        ) from None
    except OSError:
        pass  # a file system without locks


# --- what is there ---


def _read(path: str) -> Found:
    found = Found()
    with open(path, "rb") as file:
        for number, data in enumerate(file, 1):
            if not data.endswith(b"\n"):
                _check_torn(data, number, path)
                break
            if number == 1:
                found.header = _header(data, path)
            else:
                _add(found, _record(data, f"{path}, line {number}"))
            found.end += len(data)
    return found


def _check_torn(data: bytes, number: int, path: str) -> None:
    """A header that was being written when the process was killed begins as all headers do."""
    n = min(len(data), len(_BEGINNING))
    if number == 1 and data[:n] != _BEGINNING[:n]:
        raise JobError(f"{path} exists and is not the output of a job; {_START_OVER}")


def _header(data: bytes, path: str) -> Record:
    header = None
    with contextlib.suppress(ValueError, RecursionError):
        header = json.loads(data)
    if not isinstance(header, dict) or "localgen_batch" not in header:
        raise JobError(f"{path} exists and is not the output of a job; {_START_OVER}")
    if header["localgen_batch"] != FORMAT or not isinstance(header.get("seed"), int):
        raise JobError(f"{path} was written by another version of localgen; {_START_OVER}")
    return header


def _record(data: bytes, where: str) -> Record:
    with contextlib.suppress(ValueError, RecursionError):
        record = json.loads(data)
        if (
            isinstance(record, dict)
            and {"id", "line", "line_hash"} <= record.keys()
            and isinstance(record["line"], int)
            and ("error" in record or "text" in record)
        ):
            return record
    raise JobError(f"{where} is corrupt. Delete this line; the job then generates it again.")


def _add(found: Found, record: Record) -> None:
    line = record["line"]
    if "error" in record:
        found.failed[line] = record
    else:
        found.done[line] = Done(record["id"], record["line_hash"])


# --- whether it is this job's ---


def _check_same(old: Record, new: Record, path: str) -> None:
    changes = list(_changes(old, new))
    if changes:
        raise JobError(
            f"the job cannot be resumed from {path}, which has the results of another job: "
            f"{'; '.join(changes)}. Use the settings it was started with, {_START_OVER}"
        )


def _changes(old: Record, new: Record) -> Iterator[str]:
    """What differs, in words."""
    if _identity(old) != _identity(new):
        yield f"the model was {_model(old)} and is now {_model(new)}"
    for part in ("model_options", "generation_options"):
        before, now = old.get(part) or {}, new[part]
        for name in sorted({*before, *now} - {*_NOT_ASKED_FOR}):
            if before.get(name) != now.get(name):
                yield f"{name} was {before.get(name)!r} and is now {now.get(name)!r}"


def _identity(header: Record) -> tuple[Any, Any]:
    """Of the model's content: the file may have been renamed."""
    model = header.get("model") or {}
    return model.get("size"), model.get("fingerprint")


def _model(header: Record) -> str:
    model = header.get("model") or {}
    return f"{model.get('file')} ({model.get('size')} bytes, {str(model.get('fingerprint'))[:8]}…)"


def other_versions(old: Record, new: Record) -> list[str]:
    """Packages whose version is not the one that a job was begun with, in words."""
    before, now = old.get("versions") or {}, new["versions"]
    return [
        f"{name} {now[name]} (started with {before.get(name)})"
        for name in now
        if now[name] != before.get(name)
    ]
