"""Loads llama.cpp once per process and routes its log to ``logging``; it knows no models."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import logging
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from localgen._util.shell import with_variables
from localgen.errors import BackendError

logger = logging.getLogger("localgen.llama")
# Without logging set up, a library prints nothing.
logging.getLogger("localgen").addHandler(logging.NullHandler())

# ggml.h's numbers. llama.cpp's INFO is a page of text for each load: DEBUG here.
_LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}
_CONTINUED = 5
_KEPT_LINES = 12

_SPIN_VARIABLE = "GOMP_SPINCOUNT"
_WAIT_VARIABLES = ("OMP_WAIT_POLICY", _SPIN_VARIABLE)
# 10 to 50 microseconds. libgomp itself takes it where it has more threads than CPUs.
_SPINS = "1000"

INSTALL = "pip install llama-cpp-python"


class _LogRouter:
    """Passes llama.cpp's log lines on, and keeps the last errors for exceptions."""

    def __init__(self) -> None:
        self._errors: deque[str] = deque(maxlen=_KEPT_LINES)
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
                self._errors.append(line)
            # The exception that follows tells the caller.
            logger.info("%s", line)
        else:
            logger.log(self._level, "%s", line)

    def take_errors(self) -> str:
        """Return the last error lines, joined, and forget them."""
        with self._lock:
            text = "; ".join(self._errors)
            self._errors.clear()
        return text


log_router = _LogRouter()


@functools.cache
def llama() -> Any:
    """Return the initialised module of low-level bindings, ``llama_cpp.llama_cpp``.

    Its type is Any, because its annotations describe ctypes values as plain Python ones.
    """
    # When it aborts, ggml would fork and run any debugger that it finds on PATH.
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    with _same_affinity(), _short_spinning():
        try:
            bindings: Any = importlib.import_module("llama_cpp.llama_cpp")
        except (ImportError, OSError, RuntimeError) as error:
            raise BackendError(
                f"llama-cpp-python cannot be imported ({error}); install it with: {INSTALL}"
            ) from error
        _keep_null_files_quiet()
        _route_log(bindings)
        bindings.llama_backend_init()
    if openmp_binding() is not None:
        bindings.llama_decode = _same_affinity()(bindings.llama_decode)
    return bindings


def _keep_null_files_quiet() -> None:
    """Replace the files that llama_cpp opens on import and never closes.

    Python warns of them when it ends. They stay usable: ``llama_cpp.Llama`` writes to them, even
    while Python ends.
    """
    utils = sys.modules.get("llama_cpp._utils")
    for name in ("outnull_file", "errnull_file"):
        file = getattr(utils, name, None)
        if file is not None and file.name == os.devnull:
            copy = open(os.dup(file.fileno()), "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(utils, name, copy)
            file.close()


def openmp_binding() -> str | None:
    """Return the environment variable with which OpenMP binds threads to CPUs; None if none does.

    By OpenMP's specification, OMP_PROC_BIND=false overrides the others.
    """
    if os.environ.get("OMP_PROC_BIND", "").strip().lower() == "false":
        return None
    names = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY")
    return next((name for name in names if os.environ.get(name)), None)


@contextlib.contextmanager
def _same_affinity() -> Iterator[None]:
    """Leave the calling thread on its CPUs.

    OpenMP's threads are to be bound where the user said so. But GCC's also binds the thread that
    loads it, and any that computes for the first time, to the first place: the caller's program,
    and all threads that it starts from then on, would share one CPU.
    """
    get = getattr(os, "sched_getaffinity", None)
    set_ = getattr(os, "sched_setaffinity", None)
    if get is None or set_ is None:
        yield
        return
    cpus = get(0)
    try:
        yield
    finally:
        if get(0) != cpus:
            set_(0, cpus)


@contextlib.contextmanager
def _short_spinning() -> Iterator[None]:
    """Let GCC's OpenMP, if it is loaded inside, spin for some microseconds before it sleeps.

    Its threads meet hundreds of times in a forward pass. By default they spin for milliseconds,
    in which a thread that they wait for may not get a CPU that others use: beside busy programs a
    pass takes a hundred times as long. About as long as a thread takes to sleep and wake up is
    enough on a quiet machine, and little is lost on others. The variable is read when the library
    is loaded, and child processes do not inherit it.
    """
    is_set = any(os.environ.get(name) for name in _WAIT_VARIABLES)
    if is_set or not sys.platform.startswith("linux"):
        yield
        return
    os.environ[_SPIN_VARIABLE] = _SPINS
    try:
        yield
    finally:
        del os.environ[_SPIN_VARIABLE]


def _route_log(bindings: Any) -> None:
    callback = bindings.llama_log_callback(log_router)
    bindings.llama_log_set(callback, None)
    # At exit C must not call into a finalized interpreter. Finalizers run in reverse order of
    # creation, so models, which are created later, are freed before this.
    silent = bindings.llama_log_callback()
    weakref.finalize(log_router, _reset_log, bindings, callback, silent)


def _reset_log(bindings: Any, _kept_alive: object, silent: object) -> None:
    bindings.llama_log_set(silent, None)


@functools.cache
def llama_version() -> str:
    """Return llama-cpp-python's version and the commit of its llama.cpp."""
    return f"{bindings_version()} ({llama_commit()})"


def bindings_version() -> str:
    """Return llama-cpp-python's version."""
    llama()  # importing llama_cpp loads the library, which only this does as it should
    return str(importlib.import_module("llama_cpp").__version__)


def llama_commit() -> str:
    """Return the commit of llama.cpp that the library was built from."""
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
    """Return ggml's DLLs on Windows, nothing elsewhere.

    Windows looks up only a library's own functions; other systems also look in its dependencies.
    """
    return tuple(ctypes.CDLL(str(path)) for path in sorted(library_folder().glob("*ggml*.dll")))


@functools.cache
def system_info() -> str:
    """Return llama.cpp's line about its backends and CPU features."""
    text: bytes = llama().llama_print_system_info()
    return text.decode("utf-8", errors="replace").strip()


def library_folder() -> Path:
    """Return the folder of the loaded shared libraries.

    LLAMA_CPP_LIB_PATH may name another folder than llama-cpp-python's own.
    """
    return Path(llama()._lib._name).parent


def rebuild_command(*settings: str) -> str:
    """Return the command that compiles llama-cpp-python here; ``settings`` are NAME="value"."""
    pip = "pip install --force-reinstall --no-cache-dir --no-binary llama-cpp-python"
    return with_variables(list(settings), f"{pip} llama-cpp-python")
