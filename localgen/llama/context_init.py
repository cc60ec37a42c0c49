"""Makes a llama_context in a thread of its own, so that its caller may stop waiting for it.

C cannot be interrupted while it fills the KV cache with zeros, which takes seconds for gigabytes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from localgen._util.threads import thread_in_charge, working_for
from localgen.engine.backend import PassStopped

# Long enough to cost nothing, short enough for nobody to notice.
_SECONDS_BETWEEN_LOOKS = 0.02


@dataclass(frozen=True, slots=True)
class ContextSize:
    """n_ctx_seq: tokens of each sequence, or of all that share their cells (``is_unified``).
    flash_attention: "on", "off" or "auto", which decides how their values are laid out."""

    n_slots: int
    n_ctx_seq: int
    is_unified: bool
    flash_attention: str

    @property
    def n_ctx(self) -> int:
        """The tokens of all sequences."""
        return self.n_ctx_seq * (1 if self.is_unified else self.n_slots)

    def has_room_for(self, other: ContextSize) -> bool:
        return (
            self.is_unified == other.is_unified
            and self.flash_attention == other.flash_attention
            and self.n_slots >= other.n_slots
            and self.n_ctx_seq >= other.n_ctx_seq
        )


class ContextInit:
    """A llama_context that is being made; once it is over, ``handle`` is it, or None."""

    def __init__(self, size: ContextSize) -> None:
        self.size = size
        self.handle: Any = None
        self._is_over = threading.Event()
        self._claimed = threading.Lock()
        self._pid = os.getpid()

    def start(self, make: Callable[[], Any]) -> None:
        """Let a thread call ``make``.

        Only the thread holds ``make``: whatever that refers to lives until the call is over.
        """
        try:
            args = (make, thread_in_charge())
            threading.Thread(target=self._run, args=args, daemon=False).start()
        except BaseException:
            if self._claimed.acquire(blocking=False):  # then the thread will call nothing
                self._is_over.set()
            raise

    def _run(self, make: Callable[[], Any], starter: int) -> None:
        if self._claimed.acquire(blocking=False):
            try:
                with working_for(starter):
                    self.handle = make()
            finally:
                self._is_over.set()

    def wait(self, should_stop: Callable[[], bool] | None = None) -> None:
        """Return when it is over; in a fork, which lacks the thread, at once.

        Raises PassStopped if ``should_stop()``; the context is then still being made.
        """
        if os.getpid() != self._pid:
            return
        if should_stop is None:
            self._is_over.wait()
            return
        while not self._is_over.wait(_SECONDS_BETWEEN_LOOKS):
            if should_stop():
                raise PassStopped
