"""Tries vocabularies of unknown types in a child process, once per file; it has no rules itself.

A new llama.cpp may support types that this version of localgen has no rules for. ``vocab_probe``
runs in the child; this module judges how the child ends, and remembers it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from localgen._util.atomic_write import atomic_write_bytes
from localgen._util.child import Failure, run_json_child
from localgen._util.user_folders import cache_folder
from localgen.errors import InvalidGGUFError
from localgen.gguf.fingerprint import fingerprint
from localgen.gguf.gate import ModelFile
from localgen.llama.library import llama_version, logger

_PROBE = "localgen.llama.vocab_probe"
# Of the probe; results of other revisions are not used.
_REVISION = 1
_LIMIT_SECONDS = 120.0
# The probe reads all weights once, maybe from a slow disk.
_SLOWEST_BYTES_PER_SECOND = 50e6
# Signals of a crash in C, which repeats. Others come from outside, such as SIGKILL when memory runs
# out: like a time limit, they may not occur the next time.
_CRASHES = ("SIGABRT", "SIGSEGV", "SIGILL", "SIGFPE")


@dataclass(frozen=True, slots=True)
class _Result:
    """failure: how the child process ended, or None if it survived."""

    failure: str | None


def check_unknown_vocabulary(file: ModelFile, limit_seconds: float | None = None) -> None:
    """Try a vocabulary of an unknown type in a child process; return at once for a known one.

    limit_seconds: defaults to two minutes, plus time to read a large file. Raises InvalidGGUFError
    if the child crashes, fails or exceeds the limit.
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


# --- remembered results: one JSON file each ---


def _entry(file: ModelFile) -> Path | None:
    """Return the path of the result for this file and version of llama.cpp; None without one."""
    folder = cache_folder()
    if folder is None:
        return None
    digest = hashlib.sha256(f"{_REVISION} {llama_version()} ".encode())
    try:
        digest.update(fingerprint(*file.paths).encode())
        # The fingerprint samples the file, but every byte of the vocabulary matters.
        with file.path.open("rb") as stream:
            digest.update(stream.read(file.shards[0].data_offset))
    except OSError:
        return None
    return folder / "vocabularies" / f"{digest.hexdigest()}.json"


def _remembered(entry: Path | None) -> _Result | None:
    """Return the result of an earlier trial; None if there is none, or it is corrupt."""
    if entry is None:
        return None
    try:
        found = json.loads(entry.read_bytes())
        failure = found["failure"]
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None
    return _Result(failure) if failure is None or isinstance(failure, str) else None


def _remember(entry: Path | None, result: _Result) -> None:
    """Save the result. Errors are ignored: then the next load tries again."""
    if entry is None:
        return
    with contextlib.suppress(OSError):
        atomic_write_bytes(entry, json.dumps({"failure": result.failure}).encode())
