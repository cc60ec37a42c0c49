"""Tries vocabularies that the gate has no rules for in a child process, once for each file.

A new llama.cpp may read types that this localgen does not know. Whether it survives such a file is
what ``vocab_probe`` finds out; here its end is judged, and remembered.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from localgen._util.atomic_write import write_whole
from localgen._util.cache_folder import cache_folder
from localgen._util.child import Failure, run_json_child
from localgen.errors import InvalidGGUFError
from localgen.gguf.fingerprint import fingerprint
from localgen.gguf.gate import ModelFile
from localgen.llama.library import llama_version, logger

_PROBE = "localgen.llama.vocab_probe"
# Of the probe: results of another one are not used.
_REVISION = 1
_LIMIT_SECONDS = 120.0
# All weights are read once, perhaps from a slow disk.
_SLOWEST_BYTES_PER_SECOND = 50e6
# Signals that C raises by its own fault. Others come from outside, such as SIGKILL when the memory
# ran out; like a time limit, they can end otherwise the next time.
_CRASHES = ("SIGABRT", "SIGSEGV", "SIGILL", "SIGFPE")


@dataclass(frozen=True, slots=True)
class _Result:
    """failure: how the child process ended, or None if it survived."""

    failure: str | None


def check_unknown_vocabulary(file: ModelFile, limit_seconds: float | None = None) -> None:
    """Try a vocabulary without rules in a child process; do nothing for a known one.

    limit_seconds: by default two minutes, and more for a large file. Raises InvalidGGUFError if
    the child dies, fails or runs out of time.
    """
    vocabulary = file.unknown_vocabulary
    if vocabulary is None:
        return
    entry = _entry(file)
    result = _remembered(entry)
    if result is None:
        logger.info(
            "%s: localgen has no rules for %s, so the file is tried in a child process first. "
            "This doubles the load time, once for this file and version of llama.cpp.",
            file.path,
            vocabulary,
        )
        result = _try(file, entry, vocabulary, limit_seconds)
        how_to_repeat = ""
    else:
        logger.info("%s: %s was tried earlier (%s)", file.path, vocabulary, entry)
        how_to_repeat = f" This is the result of an earlier trial; delete {entry} to try again."
    if result.failure is not None:
        raise InvalidGGUFError(
            f"{file.path} has a vocabulary of an unknown type ({vocabulary}), and trying it in a "
            f"child process failed: the process {result.failure}. Update llama-cpp-python, or "
            f"use another file of this model.{how_to_repeat}"
        )


def _try(
    file: ModelFile, entry: Path | None, vocabulary: str, limit_seconds: float | None
) -> _Result:
    if limit_seconds is None:
        n_bytes = sum(shard.size for shard in file.shards)
        limit_seconds = _LIMIT_SECONDS + n_bytes // _SLOWEST_BYTES_PER_SECOND
    ended = run_json_child(_PROBE, str(file.path), limit_seconds=limit_seconds)
    result = _Result(ended.reason if isinstance(ended, Failure) else None)
    if result.failure is None:
        logger.info("%s: llama.cpp survives %s", file.path, vocabulary)
    if not isinstance(ended, Failure) or ended.signal in _CRASHES:
        _remember(entry, result)
    return result


# --- what is remembered: a JSON file a trial ---


def _entry(file: ModelFile) -> Path | None:
    """Where the result for this file and version of llama.cpp is kept; None if nowhere."""
    folder = cache_folder()
    if folder is None:
        return None
    digest = hashlib.sha256(f"{_REVISION} {llama_version()} ".encode())
    try:
        digest.update(fingerprint(*file.paths).encode())
        # The fingerprint samples a file; of the vocabulary each byte counts.
        with file.path.open("rb") as stream:
            digest.update(stream.read(file.shards[0].data_offset))
    except OSError:
        return None
    return folder / "vocabularies" / f"{digest.hexdigest()}.json"


def _remembered(entry: Path | None) -> _Result | None:
    """Return what an earlier trial found, or None if there was none or its file is damaged."""
    if entry is None:
        return None
    try:
        found = json.loads(entry.read_bytes())
        failure = found["failure"]
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None
    return _Result(failure) if failure is None or isinstance(failure, str) else None


def _remember(entry: Path | None, result: _Result) -> None:
    """Write the result down, where that can be done: else the next load tries again."""
    if entry is None:
        return
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        write_whole(entry, json.dumps({"failure": result.failure}).encode())
