"""Runs llama.cpp's quantizer in its own process, since nothing else can stop it.

    python -m localgen.llama.quantize

It reads each ``Task`` as a line of JSON from stdin and writes events to stdout, one JSON object per
line: {"tensor", "index", "of"} when a tensor is started; at a task's end {"types": {tensor: type},
"n_fallback", "needs_imatrix"}, or {"error"}. When stdin ends, the parent is gone: the process stops
at once and removes what it was writing.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import glob
import json
import os
import queue
import re
import sys
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from localgen.gguf.imatrix_file import read_imatrix
from localgen.llama.library import llama

_PREFIX = re.compile(r"LLAMA_FTYPE_(?:MOSTLY_|ALL_)?")
# Not types to write: the guess for a file without the key, a removed mixture, and one for which the
# quantizer has no default type.
_NOT_WRITTEN = ("GUESSED", "Q4_1_SOME_F16", "NVFP4")
_TENSOR = re.compile(r"\[\s*(\d+)/\s*(\d+)\]\s+(\S+)\s")
_TYPES = re.compile(r"\[\s*\d+/\s*\d+\]\s+(\S+)\s.*, type =\s*(\w+),(.*)")
_NEW_TYPE = re.compile(r"-> .*\((\w+)\)|converting to (\w+)")
_FALLBACK = re.compile(r"(\d+) of \d+ tensor\(s\) required fallback")
_NEEDS_IMATRIX = "will require an imatrix"
_FAILED = "failed to quantize: "
_WRITE_FAILED = "iostream error"


@functools.cache
def quantization_types() -> dict[str, int]:
    """Return the levels that this build of llama.cpp writes: {common name: its number}."""
    bindings = llama()
    found = {
        _PREFIX.sub("", name): int(getattr(bindings, name))
        for name in dir(bindings)
        if name.startswith("LLAMA_FTYPE_")
    }
    found = {name: number for name, number in found.items() if name not in _NOT_WRITTEN}
    return dict(sorted(found.items(), key=lambda item: item[1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What one run does; a dry run writes no file.

    ftype: llama.cpp's number of the level. tensor_types: {tensor: ggml's number of a type}.
    keep_split: write a shard for each of the source's; their names begin with ``target``.
    """

    source: str
    target: str
    ftype: int
    n_threads: int
    pure: bool
    allow_requantize: bool
    imatrix: str | None
    dry_run: bool
    tensor_types: dict[str, int] = field(default_factory=dict)
    token_embedding_type: int | None = None
    output_tensor_type: int | None = None
    keep_split: bool = False

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    def written(self) -> list[str]:
        """Return the files that a run has written so far."""
        if self.dry_run:
            return []
        return glob.glob(f"{glob.escape(self.target)}{'-*' if self.keep_split else ''}")


class _Log:
    """Reads llama.cpp's log of one run, which comes in pieces and names each tensor's new type."""

    def __init__(self) -> None:
        self.types: dict[str, str] = {}
        self.n_fallback = 0
        self.needs_imatrix = False
        self.errors: list[str] = []
        self._line = ""

    def __call__(self, _level: int, text: bytes, _user_data: object) -> None:
        piece = text.decode("utf-8", errors="replace")
        if started := _TENSOR.match(piece):
            _emit(index=int(started[1]), of=int(started[2]), tensor=started[3])
        self._line += piece
        while "\n" in self._line:
            line, self._line = self._line.split("\n", 1)
            self._read(line)

    def _read(self, line: str) -> None:
        if _FAILED in line:  # also at the end of a tensor's line
            self.errors.append(_as_reason(line.split(_FAILED, 1)[1]))
        elif found := _TYPES.match(line):
            name, old, rest = found.groups()
            new = _NEW_TYPE.search(rest)
            self.types[name] = (new[1] or new[2] if new else old).upper()
        elif found := _FALLBACK.search(line):
            self.n_fallback = int(found[1])
        elif _NEEDS_IMATRIX in line:
            self.needs_imatrix = True


def _as_reason(text: str) -> str:
    """Return why a run failed; of a write, C++ only says that it did."""
    return "a file cannot be written; is the disk full?" if _WRITE_FAILED in text else text


def _emit(**event: Any) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def run(task: Task) -> dict[str, Any]:
    """Run a task and return its last event; C may end the process instead."""
    bindings = llama()
    log = _Log()
    callback = bindings.llama_log_callback(log)
    bindings.llama_log_set(callback, None)
    params = bindings.llama_model_quantize_default_params()
    params.ftype = task.ftype
    params.nthread = task.n_threads
    params.pure = task.pure
    params.allow_requantize = task.allow_requantize
    params.dry_run = task.dry_run
    params.keep_split = task.keep_split
    if task.token_embedding_type is not None:
        params.token_embedding_type = task.token_embedding_type
    if task.output_tensor_type is not None:
        params.output_tensor_type = task.output_tensor_type
    patterns = _as_overrides(bindings, task.tensor_types)
    params.tt_overrides = patterns
    if task.imatrix:
        matrix = _as_imatrix(bindings, Path(task.imatrix))
        params.imatrix = ctypes.cast(matrix, type(params.imatrix))
    code = bindings.llama_model_quantize(
        os.fsencode(task.source), os.fsencode(task.target), ctypes.byref(params)
    )
    bindings.llama_log_set(bindings.llama_log_callback(), None)
    if code:
        return {"error": "; ".join(log.errors) or f"llama_model_quantize returned {code}"}
    return {
        "types": log.types,
        "n_fallback": log.n_fallback,
        "needs_imatrix": log.needs_imatrix,
    }


def _as_overrides(bindings: Any, types: dict[str, int]) -> Any:
    """Return an array of llama_model_tensor_override with an empty end; None without any."""
    if not types:
        return None
    array = (bindings.llama_model_tensor_override * (len(types) + 1))()
    for entry, (name, number) in zip(array, types.items(), strict=False):
        # A C++ regular expression for this name alone.
        entry.pattern = f"^{re.sub(r'[^A-Za-z0-9_-]', '.', name)}$".encode()
        entry.type = number
    return array


def _as_imatrix(bindings: Any, path: Path) -> Any:
    """Return an array of llama_model_imatrix_data with an empty end, keeping its data alive."""
    values = read_imatrix(path)
    array = (bindings.llama_model_imatrix_data * (len(values) + 1))()
    float_p = ctypes.POINTER(ctypes.c_float)
    for entry, (name, data) in zip(array, values.items(), strict=False):
        entry.name = name.encode()
        entry.data = data.ctypes.data_as(float_p)
        entry.size = data.size
    array.kept_alive = values
    return array


class _Tasks:
    """The tasks that come on stdin; its end ends the process, whatever that is doing."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._running: Task | None = None
        threading.Thread(target=self._read, daemon=True).start()

    def run_next(self) -> dict[str, Any]:
        task = Task(**json.loads(self._waiting.get()))
        self._running = task
        done = run(task)
        self._running = None
        return done

    def _read(self) -> None:
        for line in sys.stdin:
            self._waiting.put(line)
        for path in self._running.written() if self._running is not None else []:
            with contextlib.suppress(OSError):
                os.unlink(path)
        os._exit(1)


def main() -> NoReturn:
    """Run the tasks given on stdin."""
    tasks = _Tasks()
    while True:
        _emit(**tasks.run_next())


if __name__ == "__main__":
    main()
