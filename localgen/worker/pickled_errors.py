"""Errors on their way from the worker to the program."""

from __future__ import annotations

import contextlib
import pickle

from localgen.errors import BackendError


def pickled_error(error: BaseException) -> bytes:
    """Return an error as bytes.

    If it cannot be sent, a RuntimeError that says what it was, with the same ``partial``.
    """
    with contextlib.suppress(Exception):
        data = pickle.dumps(error)
        pickle.loads(data)
        return data
    substitute = RuntimeError(f"{type(error).__qualname__}: {error}")
    if hasattr(error, "partial"):
        substitute.partial = error.partial  # type: ignore[attr-defined]
    return pickle.dumps(substitute)


def unpickled_error(data: bytes) -> BaseException:
    """Return the error."""
    try:
        error = pickle.loads(data)
    except Exception as problem:  # its class cannot be imported here, perhaps
        return BackendError(f"the worker raised an error that cannot be read here: {problem}")
    assert isinstance(error, BaseException)
    return error
