"""Lets SIGTERM and SIGHUP end a command as Ctrl-C does: it keeps what is finished and cleans up.

By default they end the process at once, and its temporary files and child processes remain.
"""

from __future__ import annotations

import signal
from types import FrameType

# A shell's exit code of a process that a signal ended is this plus the signal's number.
_OF_A_SIGNAL = 128
_SIGNALS = [
    signal.Signals[name] for name in ("SIGTERM", "SIGHUP") if name in signal.Signals.__members__
]


class Termination:
    """Handles the signals from ``start`` to ``stop``."""

    def __init__(self) -> None:
        self._came: int | None = None
        self._handled: list[signal.Signals] = []

    def start(self) -> None:
        """Handle those that nobody handles or ignores, as nohup does."""
        self._handled = [each for each in _SIGNALS if signal.getsignal(each) == signal.SIG_DFL]
        for each in self._handled:
            signal.signal(each, self._end)

    def stop(self) -> None:
        """Leave the signals to the system again, such as where Ctrl-C does not end a command."""
        for each in self._handled:
            signal.signal(each, signal.SIG_DFL)
        self._handled = []

    def exit_code_or(self, code: int) -> int:
        """Return the exit code of a process that the signal ended; ``code`` if none came."""
        return code if self._came is None else _OF_A_SIGNAL + self._came

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._came = number
        for each in self._handled:  # what cleans up is not interrupted
            signal.signal(each, signal.SIG_IGN)
        as_ctrl_c = signal.getsignal(signal.SIGINT)
        if callable(as_ctrl_c):
            as_ctrl_c(signal.SIGINT, frame)
            return
        raise KeyboardInterrupt  # Ctrl-C is ignored, as in a shell's background jobs


TERMINATION = Termination()
