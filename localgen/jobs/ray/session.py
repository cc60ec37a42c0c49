"""Joins a Ray, or starts one, and leaves it; what Ray says goes to its log files."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Any

from localgen.errors import RayJobError
from localgen.jobs.ray import check_installed
from localgen.jobs.ray.errors import NO_CLIENT, own_errors
from localgen.jobs.ray.sizing import Node

LOCAL = "local"
CLIENT = "ray://"
# The first actor would otherwise get the rows of all in a small job; a node may fetch the model.
SECONDS_TO_START = 3600
_OF_RAY = r"ray(\.|$)"
# Ray's C++ writes warnings and errors to stderr, past Python.
_LOG_LEVEL = "RAY_BACKEND_LOG_LEVEL"
_SECONDS_TO_CONNECT = 10.0
_TRACEBACK = re.compile(r"(Last connection error: )?Traceback \(most recent call last\):")
_MOST_CHARACTERS = 400


@contextmanager
def joined(
    address: str, *, node: Node | None = None, with_messages: bool = False
) -> Iterator[None]:
    """Join the Ray at an address for the block, and raise its exceptions as RayJobError.

    address: "local" starts a Ray on this machine, "auto" joins the one that runs here. node: what a
    Ray that is started has; Ray's own default if None.
    with_messages: print what Ray says, too; otherwise what the block writes to stdout is discarded
    with it. Raises RayJobError, also for an address of Ray Client and in a process that has joined
    a Ray already, and JobError without Ray.
    """
    _check_no_client(address)
    check_installed()
    with nullcontext() if with_messages else _quiet_python():
        import ray  # noqa: PLC0415
        import ray.data  # noqa: PLC0415

        if ray.is_initialized():
            raise RayJobError(
                "this process has joined a Ray already. Call ray.shutdown() first, or use "
                "localgen.jobs.ray.generate(), which runs on the Ray that is joined."
            )
        _check_port(address)
        with _handlers_kept(), _backend_quiet(is_quiet=not with_messages):
            _join(ray, address, node, with_messages=with_messages)
        try:
            with _quiet_data(ray.data.DataContext.get_current(), with_messages), own_errors():
                yield
        finally:
            ray.shutdown()


@contextmanager
def _quiet_python() -> Iterator[None]:
    """Discard the warnings of Ray's modules and what is printed to stdout: Ray writes there when an
    actor ends, in a thread of its own."""
    with (
        warnings.catch_warnings(),
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere),
    ):
        warnings.filterwarnings("ignore", module=_OF_RAY)
        yield


def _check_no_client(address: str) -> None:
    """Raise RayJobError for an address of Ray Client, which Ray Data does not work with."""
    if address.startswith(CLIENT):
        raise RayJobError(NO_CLIENT)


def _check_port(address: str) -> None:
    """Raise RayJobError if nothing listens at HOST:PORT: Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise _cannot_join(address, error) from error


@contextmanager
def _backend_quiet(*, is_quiet: bool) -> Iterator[None]:
    """Let Ray's C++ in this process say only what ends it; it reads the level as it starts."""
    before = os.environ.get(_LOG_LEVEL)
    if not is_quiet or before is not None:
        yield
        return
    os.environ[_LOG_LEVEL] = "fatal"
    try:
        with _stderr_closed():  # it says that the level was set
            yield
    finally:
        os.environ.pop(_LOG_LEVEL, None)


@contextmanager
def _stderr_closed() -> Iterator[None]:
    """Discard what the process writes to stderr in the block, from C++ as well."""
    number = 2
    kept = os.dup(number)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, number)
        yield
    finally:
        os.dup2(kept, number)
        os.close(nowhere)
        os.close(kept)


def _join(ray: Any, address: str, node: Node | None, *, with_messages: bool) -> None:
    options: dict[str, Any] = {"include_dashboard": False}
    if address == LOCAL and node is not None:
        options |= {"num_cpus": max(1, int(node.cpus)), "_memory": node.memory}
    try:
        ray.init(
            address=address,
            logging_level=logging.INFO if with_messages else logging.CRITICAL,
            log_to_driver=with_messages,
            **options,
        )
    except Exception as error:
        raise _cannot_join(address, error) from error


def _cannot_join(address: str, error: Exception) -> RayJobError:
    said = _said(error)
    if address == LOCAL:
        return RayJobError(
            f"Ray cannot be started on this machine: {said}. Look into the logs in "
            f"/tmp/ray/session_latest/logs, or run the job without --ray."
        )
    if "ersion mismatch" in said:
        advice = "Install the cluster's versions of Python and Ray here, or these on all nodes."
    elif "auth" in said.lower() and "token" in said.lower():
        advice = (
            "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's "
            "token."
        )
    else:
        advice = (
            "Start Ray with `ray start --head`, of the same version as here, and give HOST:PORT of "
            "its head, or use --ray local, which starts one on this machine."
        )
    return RayJobError(f"the Ray at {address!r} cannot be joined: {said}. {advice}")


def _said(error: BaseException) -> str:
    """Return what an exception and those that caused it say, each once, in one line."""
    texts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        text = _without_traceback(str(cause))
        texts += [text] if text and text not in texts else []
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return ": ".join(texts) or type(error).__name__


def _without_traceback(text: str) -> str:
    """Return a text in one line, without the lines of a traceback in it, and not endless."""
    lines = (line for line in _TRACEBACK.sub("", text).splitlines() if line[:1] != " ")
    return " ".join(" ".join(lines).split())[:_MOST_CHARACTERS].rstrip(".")


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Restore the handlers of signals, which ``ray.init()`` replaces by its own.

    Ray's ends the process with the number of the signal as its exit code: a signal that comes
    meanwhile is given to the handler that was there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    number = getattr(signal, "SIGBREAK", signal.SIGTERM)
    before = signal.getsignal(number)
    try:
        yield
    except SystemExit as error:
        signal.signal(number, before)
        if error.code == number:
            signal.raise_signal(number)
        raise
    finally:
        signal.signal(number, before)


@contextmanager
def _quiet_data(context: Any, with_messages: bool) -> Iterator[None]:
    """Let Ray Data wait for all actors of a pool, and print nothing."""
    fields = {"wait_for_min_actors_s": SECONDS_TO_START}
    if not with_messages:
        fields |= {"enable_progress_bars": False, "print_on_execution_start": False}
    before = {name: getattr(context, name) for name in fields}
    console = [] if with_messages else _console_handlers()
    levels = [handler.level for handler in console]
    for name, value in fields.items():
        setattr(context, name, value)
    for handler in console:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        for handler, level in zip(console, levels, strict=True):
            handler.setLevel(level)


def _console_handlers() -> list[logging.Handler]:
    """Return the handlers that print what Ray says; its files are handlers as well."""
    found = [*logging.getLogger("ray").handlers, *logging.getLogger("ray.data").handlers]
    return [each for each in found if isinstance(each, logging.StreamHandler)
            and not isinstance(each, logging.FileHandler)]  # fmt: skip
