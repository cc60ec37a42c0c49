"""A job's output file: a header, then one record per row, each written as soon as it is ready.

It knows files and JSON, not models. Each record goes to the operating system at once, so a killed
process loses none; a power failure loses at most the last ``SYNC_SECONDS``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from localgen._util import file_lock
from localgen._util.atomic_write import make_folder
from localgen._version import __version__
from localgen.config import GenerationConfig, ModelConfig
from localgen.errors import JobError
from localgen.gguf.fingerprint import fingerprint
from localgen.jobs.rows import RowId
from localgen.llama.library import bindings_version

Record = dict[str, Any]

FORMAT = 1
SYNC_SECONDS = 5.0
_BEGINNING = b'{"localgen_batch": '
# Unicode's own ends of lines, as JSON's escapes: many programs split lines at them too.
LINE_ENDS = {ord(each): f"\\u{ord(each):04x}" for each in "\x85\u2028\u2029"}
# They affect speed and memory, not results: a job that ran out of memory may be resumed with fewer
# sequences.
_MAY_CHANGE = ("n_threads", "n_batch", "n_ubatch", "max_sequences", "kv_budget",
               "reserved_new_tokens", "check_memory")  # fmt: skip
_DEFAULTS = {**dataclasses.asdict(ModelConfig()), **dataclasses.asdict(GenerationConfig())}
_START_OVER = "choose another output file, or start over with --overwrite."


def make_header(
    model: Path, loading: ModelConfig, defaults: GenerationConfig, **options: Any
) -> Record:
    """Return the header: what it takes to repeat the job, with a new seed if none is set."""
    header = {
        "localgen_batch": FORMAT,
        "model": {
            "file": model.name,
            "size": model.stat().st_size,
            "fingerprint": fingerprint(model),
        },
        "versions": {
            "localgen": __version__,
            "llama-cpp-python": bindings_version(),
            "numpy": np.__version__,
            "python": ".".join(map(str, sys.version_info[:3])),
        },
        "model_options": dataclasses.asdict(loading),
        "generation_options": {**dataclasses.asdict(defaults), **options},
        "seed": secrets.randbits(53) if defaults.seed is None else defaults.seed,
    }
    # As it is read back: tuples become lists.
    return json.loads(json.dumps(header))  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Done:
    """A row that is done: its id, and the hash of its line."""

    id: RowId
    line_hash: str


@dataclass(slots=True)
class Found:
    """What an output file holds.

    failed: the last record of each line that failed. end: the file's length in bytes, without an
    incomplete last line.
    """

    header: Record | None = None
    done: dict[int, Done] = field(default_factory=dict)
    failed: dict[int, Record] = field(default_factory=dict)
    end: int = 0


class Results:
    """An output that records are appended to; ``found`` is what it holds already.

    Nothing is written before ``begin()``. path: the output's; None for stdout.
    """

    def __init__(
        self,
        file: BinaryIO,
        header: Record,
        found: Found | None = None,
        *,
        path: str | None = None,
    ) -> None:
        self._file = file
        self._path = path
        self._is_file = found is not None
        self._is_gone = False
        self._synced_at = time.monotonic()
        self.found = found or Found()
        self.header = self.found.header or header

    @property
    def seed(self) -> int:
        """The seed of the job."""
        return int(self.header["seed"])

    def begin(self) -> None:
        """Remove an incomplete last line, and write the header if there is none."""
        if self._is_file:
            self._file.seek(self.found.end)
            self._file.truncate()
        if self.found.header is None:
            self.write(self.header)

    def write(self, record: Record) -> None:
        """Append a record. Raises JobError if the file cannot be written, or is there no more."""
        text = json.dumps(record, ensure_ascii=False).translate(LINE_ENDS) + "\n"
        # Only a lone surrogate, of a file's name or a message, has no UTF-8: it becomes JSON's own
        # escape.
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        with self._errors():
            while data:  # an unbuffered file may write only a part
                data = data[self._file.write(data) :]
            self._file.flush()
        self._check_there()
        if self._is_file and time.monotonic() - self._synced_at > SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Wait until everything written is on the disk. Raises JobError, as ``write`` does."""
        if self._is_file:
            with self._errors():
                os.fsync(self._file.fileno())
            self._synced_at = time.monotonic()
            self._check_there()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise an error of the file as a JobError that names it; stdout names itself."""
        try:
            yield
        except OSError as error:
            if self._path is None:
                raise
            raise JobError(
                f"{self._path} cannot be written: {error.strerror}. The results so far are kept; "
                f"run the same command again, without --overwrite, to resume."
            ) from error

    def _check_there(self) -> None:
        """Raise JobError if the file was deleted, moved or replaced: its results would be lost."""
        if self._path is None or not self._is_file or self._is_gone:
            return
        status = os.fstat(self._file.fileno())
        try:
            if os.path.samestat(os.stat(self._path), status):
                return
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError:
            return  # whether it is there cannot be known now
        self._is_gone = True
        what = "deleted" if status.st_nlink == 0 else "moved or replaced"
        kept = "in the moved file" if status.st_nlink else self._restored(self._path)
        raise JobError(
            f"{self._path} was {what} while the job was writing it. The results so far are {kept}."
        )

    def _restored(self, path: str) -> str:
        """Copy the deleted file's results to ``path`` or a new name; return where they are."""
        for name in (path, f"{path}.kept"):
            try:
                with open(name, "xb") as copy:
                    os.lseek(self._file.fileno(), 0, os.SEEK_SET)
                    with open(self._file.fileno(), "rb", closefd=False) as deleted:
                        shutil.copyfileobj(deleted, copy)
            except FileExistsError:
                continue
            except OSError as error:
                return f"lost: {error.strerror}"
            return f"in {name}"
        return "lost: both names are taken"


@contextmanager
def open_results(path: str, header: Record, *, overwrite: bool = False) -> Iterator[Results]:
    """Open the results at ``path``, locked; "-" is stdout.

    A file with results of this job is resumed. Anything but a regular file is only written to.
    Raises JobError for another job's file, or if another process is writing it.
    """
    if path == "-":
        yield Results(sys.stdout.buffer, header)
        return
    with _open(path) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            yield Results(file, header, path=path)
            return
        if not file_lock.lock(file):
            raise JobError(f"{path} is being written by another process; wait until it ends")
        found = Found() if overwrite else _read(path)
        if found.header is not None:
            check_same(found.header, header, path)
        yield Results(file, header, found, path=path)


def _open(path: str) -> BinaryIO:
    """Open a file to write to, unbuffered; create it and its folder if needed.

    It is not truncated.
    A regular file can be read as well: its name may be deleted. A pipe must not be its own reader.
    """
    make_folder(Path(path).parent)
    access = os.O_RDWR if os.path.isfile(path) or not os.path.exists(path) else os.O_WRONLY
    return open(os.open(path, access | os.O_CREAT, 0o666), "wb", buffering=0)


# --- an existing file ---


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
    """Raise JobError unless the incomplete line may be one that a killed process was writing."""
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


# --- is it this job's? ---


def check_same(old: Record, new: Record, path: str, advice: str = f"or {_START_OVER}") -> None:
    """Raise JobError unless two headers are of the same job. advice: what else to do."""
    changes = list(_changes(old, new))
    if changes:
        raise JobError(
            f"the job cannot be resumed from {path}, which has the results of another job: "
            f"{'; '.join(changes)}. Use the settings it was started with, {advice}"
        )


def _changes(old: Record, new: Record) -> Iterator[str]:
    """Yield each difference between two headers, as text."""
    if _identity(old) != _identity(new):
        yield f"the model was {_model(old)} and is now {_model(new)}"
    for part in ("model_options", "generation_options"):
        before, now = old.get(part) or {}, new[part]
        # An option that is newer than the file had its default.
        before = {name: default for name, default in _DEFAULTS.items() if name in now} | before
        for name in sorted({*before, *now} - {*_MAY_CHANGE}):
            if before.get(name) != now.get(name):
                yield f"{name} was {before.get(name)!r} and is now {now.get(name)!r}"


def _identity(header: Record) -> tuple[Any, Any]:
    """Return what identifies the model's content: the file may have been renamed."""
    model = header.get("model") or {}
    return model.get("size"), model.get("fingerprint")


def _model(header: Record) -> str:
    model = header.get("model") or {}
    return f"{model.get('file')} ({model.get('size')} bytes, {str(model.get('fingerprint'))[:8]}…)"


def other_versions(old: Record, new: Record) -> list[str]:
    """Return the packages whose version differs from the one the job was started with, as text."""
    before, now = old.get("versions") or {}, new["versions"]
    return [
        f"{name} {now[name]} (started with {before.get(name)})"
        for name in now
        if now[name] != before.get(name)
    ]
