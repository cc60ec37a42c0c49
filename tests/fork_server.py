"""Forks a child for each piece of Python that it is sent, with localgen already imported.

    python -W … -m tests.fork_server FD

A process of its own for each case costs 10 ms so, and not half a second. FD is a Unix socket:
a request is a JSON object (code, args, cwd, env, closed) with the file descriptors for stdin,
stdout and stderr, of which those in ``closed`` are closed instead; the answers are the child's pid
and then its wait status, a JSON number a line.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import socket
import sys
import types
import warnings
from typing import Any

assert sys.platform != "win32", "Windows has no fork"

_MOST_BYTES = 2**20
_IMPORTED_WHEN_NEEDED = (
    *("httpx2", "huggingface_hub.utils", "jinja2.sandbox", "numpy.random", "prompt_toolkit"),
    *("rich.progress", "rich.table", "typer._adapters"),
)


def serve(server: socket.socket) -> dict[str, Any] | None:
    """Return a request in the child that is to run it, and None in the server when it ends."""
    while True:
        message, fds, _, _ = socket.recv_fds(server, _MOST_BYTES, 3)
        if not message:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a fork beside NumPy's threads, which are idle
            pid = os.fork()
        if pid == 0:
            server.close()
            for fd, standard in zip(fds, (0, 1, 2), strict=True):
                os.dup2(fd, standard)
                os.close(fd)
            request: dict[str, Any] = json.loads(message)
            return request
        for fd in fds:
            os.close(fd)
        server.sendall(b"%d\n" % pid)
        server.sendall(b"%d\n" % os.waitpid(pid, 0)[1])


def prepare(request: dict[str, Any]) -> types.ModuleType:
    """Make this process what ``python -c code args…`` is; return its ``__main__``."""
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = ["-c", *request["args"]]
    for number in request["closed"]:  # as Python starts without them
        os.close(number)
        setattr(sys, ("stdin", "stdout", "stderr")[number], None)
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    return main


def import_all() -> None:
    """Import what the command and the library import when they need it."""
    from localgen.llama.library import llama

    llama()
    for name in _IMPORTED_WHEN_NEEDED:
        with contextlib.suppress(ImportError):  # another version of it
            importlib.import_module(name)
    for module in pkgutil.iter_modules(importlib.import_module("localgen.cli").__path__):
        importlib.import_module(f"localgen.cli.{module.name}")


if __name__ == "__main__":
    import_all()
    gc.freeze()  # what no child need look at
    _request = serve(socket.socket(fileno=int(sys.argv[1])))
    if _request is not None:
        # As the last statement, so that the child ends as any Python program does.
        exec(compile(_request["code"], "<string>", "exec"), vars(prepare(_request)))
