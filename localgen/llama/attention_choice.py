"""Holds which setting of flash attention a model's next context gets, and what was measured."""

from __future__ import annotations

from collections.abc import Callable

from localgen.engine.backend import Work
from localgen.errors import LocalgenError
from localgen.llama.attention import SETTINGS, AttentionTimes, choose
from localgen.llama.library import logger

# Measuring takes about as long as so many tokens.
_WORTH_MEASURING = 128


class AttentionChoice:
    """fixed: the setting that does not depend on measurements. adapts: whether another one may be
    chosen; then ``fixed`` is "off". next: the setting of the next context.
    """

    def __init__(self, fixed: str, *, adapts: bool) -> None:
        self.fixed = self.next = fixed
        self.adapts = adapts
        self.times: AttentionTimes | None = None
        self._lost_seconds = 0.0
        self._n_tokens = 0  # computed so far

    def is_unmeasured_for(self, work: Work | None) -> bool:
        """Whether ``work``, with what ran before it, is worth measuring for, and that was not done
        yet. What has a deadline needs its time for itself."""
        if work is None or work.has_deadline or not self.adapts or self.times is not None:
            return False
        n_tokens = self._n_tokens + work.n_prompt + work.n_rows * work.n_steps
        return n_tokens >= _WORTH_MEASURING

    def measure(self, measure: Callable[[], AttentionTimes | None]) -> None:
        """Let ``measure`` find the times; if it fails, the setting stays ``fixed`` from now on."""
        try:
            self.times = measure()
        except (LocalgenError, ValueError) as error:
            logger.info("flash attention could not be measured and stays off: %s", error)
        self.adapts = self.times is not None

    def suits(self, work: Work | None, current: str | None, switch_seconds: float) -> bool:
        """Choose ``next`` for ``work``; return whether a context with ``current`` may stay."""
        if not self.adapts or work is None:
            self.next = self.fixed
            return current in (None, self.fixed)
        if self.times is None:
            self.next = current or self.fixed
            return True
        choice = choose(self.times, work, current, switch_seconds, self._lost_seconds)
        self.next = choice.setting
        return choice.keeps

    def made(self) -> None:
        """Take note of a new context."""
        self._lost_seconds = 0.0

    def ran(self, setting: str, n_prompt: int, n_rows: int, depth: int) -> None:
        """Take note of a pass; see ``PassSeconds.of_pass``."""
        self._n_tokens += n_prompt + n_rows
        if self.times is not None and setting in SETTINGS:
            taken = self.times.of(setting).of_pass(n_prompt, n_rows, depth)
            other = self.times.of("off" if setting == "on" else "on")
            lost = taken - other.of_pass(n_prompt, n_rows, depth)
            self._lost_seconds = max(0.0, self._lost_seconds + lost)
