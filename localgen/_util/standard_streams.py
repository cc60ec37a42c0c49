"""Prepares the standard streams for a command, however the process was started.

Any of them may be closed, full, broken, or in an encoding that lacks characters. A result that
cannot be written is an error that names the stream. stderr is a courtesy: what it cannot take is
dropped, and the work continues.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import Any, TextIO

_LOSSY = "localgen.lossy"


def prepare_streams() -> None:
    """Replace ``sys.stdin``, ``sys.stdout`` and ``sys.stderr`` where they could stop a command.

    A closed stream fails only when it is used. Files and pipes are UTF-8, whatever the terminal's
    encoding is. Streams that a test or a notebook has put there stay.
    """
    codecs.register_error(_LOSSY, _original_bytes_or_question_mark)
    for descriptor, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        _occupy(descriptor, flags)
    streams: Any = sys  # None if closed, which the types of sys do not say
    if streams.stdin is None:
        raw = _Named(io.FileIO(0, closefd=False), "stdin")
        streams.stdin = io.TextIOWrapper(io.BufferedReader(raw), encoding="utf-8")
    streams.stdout = _output(streams.stdout, 1, _Result, _LOSSY)
    streams.stderr = _output(streams.stderr, 2, _Courtesy, "backslashreplace")


def _occupy(descriptor: int, flags: int) -> None:
    """Open a closed descriptor, so that no other file gets its number and is written to as stderr.

    flags: those with which using it still fails.
    """
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, flags)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)
        os.set_inheritable(descriptor, True)


def _output(stream: TextIO | None, descriptor: int, kind: type[_Named], errors: str) -> TextIO:
    if stream is None:
        raw: Any = io.FileIO(descriptor, "w", closefd=False)
    elif isinstance(stream, io.TextIOWrapper):
        raw = getattr(stream.buffer, "raw", stream.buffer)
    else:
        return stream
    is_terminal = stream is not None and stream.isatty()
    return io.TextIOWrapper(
        io.BufferedWriter(kind(raw, ("stdin", "stdout", "stderr")[descriptor], stream)),
        encoding=stream.encoding if stream is not None and is_terminal else "utf-8",
        errors=errors,
        line_buffering=stream is None or stream.line_buffering or stream.write_through,
    )


class _Named(io.RawIOBase):
    """Passes bytes on to or from a stream, whose errors get its name."""

    def __init__(self, raw: Any, name: str, owner: object = None) -> None:
        self._raw = raw
        self._owner = owner  # it would close the raw stream when it is collected
        self.name = name

    def readable(self) -> bool:
        return bool(self._raw.readable())

    def writable(self) -> bool:
        return bool(self._raw.writable())

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def isatty(self) -> bool:
        return bool(self._raw.isatty())

    def readinto(self, buffer: Any) -> int | None:
        with self._errors():
            return self._raw.readinto(buffer)  # type: ignore[no-any-return]

    def write(self, data: Any) -> int:
        with self._errors():
            # Another process may have made a pipe that it shares non-blocking.
            while (n_written := self._raw.write(data)) is None:
                select.select([], [self._raw], [])
            return int(n_written)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = "it is closed" if error.errno == errno.EBADF else error.strerror
            raise OSError(error.errno, reason, self.name) from error


class _Result(_Named):
    """Fails once: what is still in a buffer then does not fail again when the process ends."""

    _has_failed = False

    def write(self, data: Any) -> int:
        if self._has_failed:
            return len(data)
        try:
            return super().write(data)
        except OSError:
            self._has_failed = True
            raise


class _Courtesy(_Named):
    """Takes all that is written to it, and drops what the stream does not take."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _original_bytes_or_question_mark(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode what no encoding has: the bytes that a file's name was decoded from, or "?"."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("replace")(error)
