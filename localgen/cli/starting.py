"""Ends the command quietly if Ctrl-C comes while it still imports; it imports little itself."""

from __future__ import annotations

import os
import signal

INTERRUPTED = 130


class QuietInterrupts:
    """Let Ctrl-C end the process at once, with exit code 130, until the block ends.

    An exception would appear as a traceback, or as an ImportError of the module that it meets, and
    nothing is there yet to clean up. Where Ctrl-C is ignored or handled, it stays so.
    """

    def __enter__(self) -> None:
        self._is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._is_ours:
            signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))

    def __exit__(self, *_: object) -> None:
        if self._is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
