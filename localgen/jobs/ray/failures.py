"""Errors of an actor on their way to the driver, as a column: Ray keeps a text of them only."""

from __future__ import annotations

import base64
import logging
import pickle
import traceback
from collections.abc import Mapping
from typing import Any

from localgen.errors import LocalgenError, RayJobError

# The column of the error that ended an actor's work, "" if none did.
FAILURE = "failure"
_logger = logging.getLogger(__name__)


def failed_batch(error: Exception, worker: str) -> dict[str, Any]:
    """Return what an actor yields for lines that it cannot run. worker: its host and process."""
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    try:
        data = pickle.dumps((error, trace))
        pickle.loads(data)
    except Exception:  # of another package, perhaps
        data = pickle.dumps((RuntimeError(_told(error)), trace))
    return {
        "file": [-1],
        "line": [-1],
        "n_new": [0],
        "error": [""],
        "worker": [worker],
        FAILURE: [base64.b64encode(data).decode()],
    }


def check_failure(batch: Mapping[str, Any]) -> None:
    """Raise RayJobError, caused by the error of the actor, if a batch is a failed one."""
    data = str(batch[FAILURE][0]) if len(batch[FAILURE]) else ""
    if not data:
        return
    error, trace = pickle.loads(base64.b64decode(data))
    node = str(batch["worker"][0]).rpartition(":")[0]
    _logger.debug("the error of an actor on %s:\n%s", node, trace)
    raise RayJobError(
        f"node {node} cannot run the job: {_told(error).rstrip('.')}. What is done is kept; run "
        f"the same command again to resume.",
        node,
    ) from error


def _told(error: Exception) -> str:
    """Return what an error says, with its kind where it is not one of localgen."""
    if isinstance(error, LocalgenError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}"
