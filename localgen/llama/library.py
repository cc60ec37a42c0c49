"""Loads llama.cpp once a process and routes its log to ``logging``; it knows nothing of models."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import logging
import os
import threading
import weakref
from collections import deque
from pathlib import Path
from typing import Any

from localgen._util.shell import with_variables
from localgen.errors import BackendError

logger = logging.getLogger("localgen.llama")
# A library says nothing on stderr unless its user sets logging up.
logging.getLogger("localgen").addHandler(logging.NullHandler())

# ggml.h's numbers. What llama.cpp calls INFO is a page a load: here that is DEBUG.
_LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}
_CONTINUED = 5
_KEPT_LINES = 12

INSTALL = "pip install llama-cpp-python"


class _LogRouter:
    """Takes llama.cpp's log lines; keeps the last errors for error messages."""

    def __init__(self) -> None:
        self._complaints: deque[str] = deque(maxlen=_KEPT_LINES)
        self._level = logging.DEBUG
        self._lock = threading.Lock()

    def __call__(self, level: int, text: bytes, _user_data: object) -> None:
        if level != _CONTINUED:
            self._level = _LEVELS.get(level, logging.DEBUG)
        if self._level == logging.DEBUG and not logger.isEnabledFor(logging.DEBUG):
            return
        line = text.decode("utf-8", errors="replace").rstrip()
        if not line:
            return
        if self._level == logging.ERROR:
            with self._lock:
                self._complaints.append(line)
            # It comes back to the caller in the exception that follows.
            logger.info("%s", line)
        else:
            logger.log(self._level, "%s", line)

    def take_complaints(self) -> str:
        """The last error lines, joined, and forget them."""
        with self._lock:
            text = "; ".join(self._complaints)
            self._complaints.clear()
        return text


log_router = _LogRouter()


@functools.cache
def llama() -> Any:
    """The ``llama_cpp.llama_cpp`` module of low-level bindings, initialised.

    Typed Any: the bindings' own annotations describe ctypes values as plain Python ones.
    """
    # On an abort, ggml would fork and run whatever debugger it finds on PATH.
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    try:
        bindings: Any = importlib.import_module("llama_cpp.llama_cpp")
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendError(
            f"llama-cpp-python cannot be imported ({error}); install it with: {INSTALL}"
        ) from error
    _route_log(bindings)
    bindings.llama_backend_init()
    return bindings


def _route_log(bindings: Any) -> None:
    callback = bindings.llama_log_callback(log_router)
    bindings.llama_log_set(callback, None)
    # At exit C must not call into a Python that is gone. Finalizers run last-made first, so
    # models, which are made later, are freed before this.
    silent = bindings.llama_log_callback()
    weakref.finalize(log_router, _reset_log, bindings, callback, silent)


def _reset_log(bindings: Any, _kept_alive: object, silent: object) -> None:
    bindings.llama_log_set(silent, None)


@functools.cache
def llama_version() -> str:
    """llama-cpp-python's version, and the commit of the llama.cpp in it."""
    return f"{bindings_version()} ({llama_commit()})"


def bindings_version() -> str:
    """llama-cpp-python's version."""
    return str(importlib.import_module("llama_cpp").__version__)


def llama_commit() -> str:
    """The commit of llama.cpp that the library was built from."""
    text: bytes = c_function("ggml_commit", ctypes.c_char_p)()
    return text.decode()


def c_function(name: str, result: Any, *arguments: Any) -> Any:
    """Return a C function of llama.cpp or ggml that the bindings do not declare."""
    bindings = llama()
    for library in (bindings._lib, *_ggml_libraries()):
        with contextlib.suppress(AttributeError):
            function = library[name]
            function.restype, function.argtypes = result, arguments
            return function
    raise BackendError(f"this build of llama.cpp has no function {name}")


@functools.cache
def _ggml_libraries() -> tuple[Any, ...]:
    """Return ggml's libraries where they are looked up by themselves.

    Windows finds in llama.dll only llama's own functions; other systems find those of the libraries
    that it was linked with.
    """
    return tuple(ctypes.CDLL(str(path)) for path in sorted(library_folder().glob("*ggml*.dll")))


@functools.cache
def system_info() -> str:
    """llama.cpp's own line about its backends and CPU features."""
    text: bytes = llama().llama_print_system_info()
    return text.decode("utf-8", errors="replace").strip()


def library_folder() -> Path:
    """Where the shared libraries of llama.cpp lie that were loaded: LLAMA_CPP_LIB_PATH may name
    others than the package's own."""
    return Path(llama()._lib._name).parent


def rebuild_command(*settings: str) -> str:
    """Return the command that compiles llama-cpp-python here; ``settings`` are NAME="value"."""
    pip = "pip install --force-reinstall --no-cache-dir --no-binary llama-cpp-python"
    return with_variables(list(settings), f"{pip} llama-cpp-python")
