"""Starts servers of a model on loopback, each in its own process: localgen's and its peers'."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from http_clients import HOST

from localgen.llama.library import library_folder

N_CTX = 2048
_START_SECONDS = 120.0
_END_SECONDS = 40.0


class Server:
    """A server that runs in a ``with`` block. port, model: where it listens, and its model's id."""

    def __init__(
        self,
        name: str,
        command: Callable[[int], Sequence[str]],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.port = free_port()
        self.model = ""
        self._command = [*command(self.port)]
        self._environment = {**os.environ, **(environment or {})}
        self.log: Any = None

    def __enter__(self) -> Server:
        self.log = tempfile.TemporaryFile()  # closed in __exit__
        self.process = subprocess.Popen(
            self._command, stdout=self.log, stderr=self.log, env=self._environment
        )
        try:
            self.model = self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def output(self) -> str:
        """Return what the server has printed."""
        self.log.seek(0)
        text: str = self.log.read().decode(errors="replace")
        return text

    def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body of a GET request."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _wait(self) -> str:
        """Return the id of the served model, once the server answers."""
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            try:
                ready, _ = self.get("/health") if self.name != "llama_cpp.server" else (200, b"")
                status, body = self.get("/v1/models")
            except OSError:
                ready = status = 0
            if ready == status == 200:
                return str(json.loads(body)["data"][0]["id"])
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} did not start:\n{self.output()[-4000:]}")


def free_port() -> int:
    """Return a port of loopback that nobody uses now."""
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        port: int = listening.getsockname()[1]
        return port


def own_server(model: str, *more: str, name: str = "localgen") -> Server:
    """Return `localgen serve`."""
    command = [sys.executable, "-m", "localgen", "serve", model, *more]
    return Server(name, lambda port: [*command, "--port", str(port)])


def llama_server(tools: Path, model: str, n_threads: int, n_rows: int) -> Server:
    """Return llama.cpp's own server, with a slot for each row."""
    command = [str(tools / "llama-server"), "-m", model, "-t", str(n_threads), "-np", str(n_rows)]
    command += ["-c", str(n_rows * N_CTX), "--host", HOST]
    environment = {"LD_LIBRARY_PATH": f"{library_folder()}:{tools}"}
    return Server("llama-server", lambda port: [*command, "--port", str(port)], environment)


def llama_cpp_server(python: Path, model: str, n_threads: int) -> Server:
    """Return llama-cpp-python's server, whose extra the given Python has."""
    command = [str(python), "-m", "llama_cpp.server", "--model", model, "--n_ctx", str(N_CTX)]
    command += ["--n_threads", str(n_threads), "--n_threads_batch", str(n_threads)]
    # Else a new request ends the one that runs.
    command += ["--interrupt_requests", "False"]
    return Server("llama_cpp.server", lambda port: [*command, "--port", str(port)])
