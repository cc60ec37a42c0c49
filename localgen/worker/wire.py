"""Messages between a program and its worker: pickled tuples, each with its length, over two pipes.

Both ends run the same interpreter and the same localgen.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import threading
from typing import Any, BinaryIO, Final

_LENGTH: Final = struct.Struct("<Q")
Message = tuple[Any, ...]


class Sender:
    """Writes messages to a pipe, from any thread."""

    def __init__(self, pipe: io.RawIOBase) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Write a message. Raises OSError or ValueError if nobody reads any more."""
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        frame = memoryview(_LENGTH.pack(len(data)) + data)
        with self._lock:
            while frame:  # an unbuffered pipe may take only a part
                frame = frame[self._pipe.write(frame) or 0 :]

    def close(self, seconds: float = 0.0) -> bool:
        """Close the pipe, so that the other end reads None; False if a message is being written
        still after so many seconds."""
        if not self._lock.acquire(timeout=seconds):
            return False
        with contextlib.suppress(OSError):
            self._pipe.close()
        self._lock.release()
        return True


class Receiver:
    """Reads the messages of a ``Sender``; one thread does."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe

    def receive(self) -> Message | None:
        """Return the next message; None where the pipe ends, in the middle of one perhaps."""
        try:
            header = self._pipe.read(_LENGTH.size)
            if len(header) < _LENGTH.size:
                return None
            (n_bytes,) = _LENGTH.unpack(header)
            data = self._pipe.read(n_bytes)
        except (OSError, ValueError):  # closed by another thread
            return None
        if len(data) < n_bytes:
            return None
        message: Message = pickle.loads(data)
        return message

    def close(self) -> None:
        """Close the pipe."""
        with contextlib.suppress(OSError):
            self._pipe.close()
