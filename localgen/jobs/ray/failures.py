"""Errors on their way to the driver, in columns: Ray keeps a text of them only."""

from __future__ import annotations

import base64
import logging
import pickle
import platform
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

from localgen.errors import LocalgenError, RayJobError
from localgen.jobs.rows import Line

# The column of the error that ended an actor's work, "" if none did.
FAILURE = "failure"
# Lines are counted from 1.
_NO_LINE = 0
_logger = logging.getLogger(__name__)


def failed_lines(error: Exception, file: int) -> dict[str, Any]:
    """Return what the reading of a file yields instead of the lines that it cannot read."""
    return {"file": [file], "line": [_NO_LINE], "data": [_pickled(error)]}


def check_lines(lines: Iterable[Line]) -> None:
    """Raise the error of ``failed_lines`` if it is among the lines."""
    for line in lines:
        if line.number == _NO_LINE:
            raise pickle.loads(line.data)[0]


def of_node(error: Exception) -> Exception:
    """Return an error with which a node cannot read the input: one that names this node where a
    file is not there, or not readable."""
    if not isinstance(error.__cause__, FileNotFoundError | PermissionError):
        return error
    node = platform.node()
    return RayJobError(
        f"node {node} cannot run the job: {_told(error).rstrip('.')}. Every node must reach the "
        f"input: put it on a disk that all share, or pass the URI of an object store.",
        node,
    )


def failed_batch(error: Exception, worker: str) -> dict[str, Any]:
    """Return what an actor yields for lines that it cannot run. worker: its host and process."""
    return {
        "file": [-1],
        "line": [_NO_LINE],
        "n_new": [0],
        "error": [""],
        "worker": [worker],
        FAILURE: [base64.b64encode(_pickled(error)).decode()],
    }


def check_failure(batch: Mapping[str, Any]) -> None:
    """Raise RayJobError, caused by the error of the actor, if a failed batch is in a batch: Ray
    puts several together."""
    found = zip(batch[FAILURE], batch["worker"], strict=True)
    data, worker = next(((str(data), str(name)) for data, name in found if data), ("", ""))
    if not data:
        return
    error, trace = pickle.loads(base64.b64decode(data))
    node = worker.rpartition(":")[0]
    _logger.debug("the error of an actor on %s:\n%s", node, trace)
    if isinstance(error, RayJobError) and error.node:  # of the node that read the input
        raise error
    raise RayJobError(
        f"node {node} cannot run the job: {_told(error).rstrip('.')}. What is done is kept; run "
        f"the same command again to resume.",
        node,
    ) from error


def _pickled(error: Exception) -> bytes:
    """Return an error and its traceback as bytes; its text only if it has no copies."""
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    try:
        data = pickle.dumps((error, trace))
        pickle.loads(data)
    except Exception:  # of another package, perhaps
        return pickle.dumps((RuntimeError(_told(error)), trace))
    return data


def _told(error: Exception) -> str:
    """Return what an error says, with its kind where it is not one of localgen."""
    if isinstance(error, LocalgenError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}"
