"""Runs native code that recurses on a thread whose stack lasts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from localgen._util.threads import start_thread
from localgen.errors import BackendError

Result = TypeVar("Result")

_stack_size_lock = threading.Lock()


def on_big_stack(n_bytes: int, name: str, what: str, work: Callable[[], Result]) -> Result:
    """Return the result of ``work``, run on a thread ``name`` with a stack of ``n_bytes``.

    what: what is done there and what could be smaller, for the BackendError that says that the
    system cannot create the thread. The work cannot be interrupted: Ctrl-C is raised once it is
    done.
    """
    with _stack_size_lock:
        before = threading.stack_size(n_bytes)
        try:
            thread, future = start_thread(work, name)
        except RuntimeError as error:  # raised by Python if the system creates no thread
            done, smaller = what.split(": ")
            raise BackendError(
                f"{done} in its own thread, here with a stack of {n_bytes // 2**20} MiB, and the "
                f"system cannot create one ({error}). Raise this process's limit of memory or "
                f"threads (ulimit -v, ulimit -u), or {smaller}."
            ) from error
        finally:
            threading.stack_size(before)
    interrupt: BaseException | None = None
    while thread.is_alive():
        try:
            thread.join()
        except BaseException as error:  # raised by a signal handler
            interrupt = error
    if interrupt is not None:
        raise interrupt
    return future.result()
