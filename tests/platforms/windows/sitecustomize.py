"""Makes Python on Linux lack what Windows lacks, and refuse what Windows refuses.

Python imports it when it starts and this folder is on PYTHONPATH, so it holds in child processes
too. The standard library and psutil have implementations for Windows, which are not at hand here:
theirs for POSIX are imported before anything is hidden.
"""

from __future__ import annotations

import asyncio  # noqa: F401
import contextlib
import errno
import fcntl
import importlib
import multiprocessing.util  # noqa: F401
import os
import shutil  # noqa: F401
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil

assert sys.platform == "linux", "it imitates Windows on Linux"

_MODULES = ("fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty")
_FUNCTIONS = (
    "chown", "confstr", "fchown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getgroups",
    "getloadavg", "getpgid", "getpgrp", "getpriority", "getsid", "getuid", "killpg", "lchown",
    "mkfifo", "mknod", "nice", "posix_fadvise", "posix_fallocate", "pread", "pwrite",
    "register_at_fork", "sched_getaffinity", "sched_setaffinity", "sched_yield", "setpgid",
    "setsid", "sync", "sysconf", "wait3", "wait4",
)  # fmt: skip
_SIGNALS = (
    "SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP",
    "SIGTSTP", "SIGUSR1", "SIGUSR2", "alarm", "pause", "pthread_kill", "pthread_sigmask",
    "setitimer", "siginterrupt", "sigwait",
)  # fmt: skip
_SHARING_VIOLATION = 32

_open, _replace, _unlink, _fsync = os.open, os.replace, os.unlink, os.fsync
_flock, _fcntl, _flags = fcntl.flock, fcntl.fcntl, fcntl.F_GETFL
_exclusive = fcntl.LOCK_EX | fcntl.LOCK_NB


def _hide() -> None:
    # What is hidden, the standard library's code for POSIX still needs.
    tempfile._os = SimpleNamespace(**vars(os))  # type: ignore[attr-defined]
    full = SimpleNamespace(**vars(signal))
    modules: tuple[Any, ...] = (subprocess, psutil, psutil._pslinux, psutil._psposix)
    for module in modules:
        module.signal = full
    for name in _MODULES:
        modules_by_name: dict[str, Any] = sys.modules
        modules_by_name[name] = None
    for name in _FUNCTIONS:
        if hasattr(os, name):
            delattr(os, name)
    for name in _SIGNALS:
        if hasattr(signal, name):
            delattr(signal, name)


def _used_here(path: Any) -> bool:
    """Whether this process has a file open, or mapped into its memory."""
    if isinstance(path, int) or not os.path.exists(path):
        return False
    real = os.path.realpath(os.fsdecode(path))
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(link) == real:
                return True
    maps = Path("/proc/self/maps").read_text("utf-8", errors="replace")
    return any(line.endswith(f" {real}") for line in maps.splitlines())


def _refusal(path: Any) -> PermissionError:
    error = PermissionError(errno.EACCES, "The process cannot access the file", os.fsdecode(path))
    error.winerror = _SHARING_VIOLATION  # type: ignore[attr-defined]
    return error


def open_(path: Any, flags: int, *args: Any, **options: Any) -> int:
    """Open a file; a folder cannot be opened."""
    if "dir_fd" not in options and os.path.isdir(path):
        raise PermissionError(errno.EACCES, "Permission denied", os.fsdecode(path))
    return _open(path, flags, *args, **options)


def replace(source: Any, target: Any, **options: Any) -> None:
    """Rename a file, unless it or its target is open."""
    if _used_here(source) or _used_here(target):
        raise _refusal(source)
    _replace(source, target, **options)


def unlink(path: Any, **options: Any) -> None:
    """Remove a file, unless it is open."""
    if "dir_fd" not in options and _used_here(path):
        raise _refusal(path)
    _unlink(path, **options)


def fsync(file: Any) -> None:
    """Flush a file to the disk, if it may be written to."""
    descriptor = file if isinstance(file, int) else file.fileno()
    if _fcntl(descriptor, _flags) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")
    _fsync(descriptor)


class Msvcrt(ModuleType):
    """Locks of bytes, which no other open file may lock at the same time."""

    LK_NBLCK = 2

    def locking(self, descriptor: int, mode: int, n_bytes: int) -> None:
        assert (mode, n_bytes) == (self.LK_NBLCK, 1)
        try:
            _flock(descriptor, _exclusive)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None


class Process(psutil.Process):
    """A process whose peak memory is told as Windows tells it."""

    def memory_info(self) -> Any:
        found = super().memory_info()
        return SimpleNamespace(rss=found.rss, peak_wset=found.rss)


def _choose_windows() -> None:
    system = importlib.import_module("localgen._util.system")
    windows = importlib.import_module("localgen._util.system.windows")
    # Other packages would take a registry of ours for Windows' own.
    windows.Windows.cpu_name = lambda self: "A CPU of Windows"
    system.PLATFORM = windows.Windows()  # type: ignore[attr-defined]


importlib.import_module("huggingface_hub.utils._terminal")  # another one on Windows
_hide()
os.open, os.replace, os.unlink, os.remove, os.fsync = open_, replace, unlink, unlink, fsync  # type: ignore[assignment]
psutil.Process = Process
sys.modules["msvcrt"] = Msvcrt("msvcrt")
# Text files without an encoding are cp1252 there.
warnings.filterwarnings("error", category=EncodingWarning, module=r"localgen(\.|$)")
_choose_windows()
