"""Holds which setting of flash attention a model's next context gets, and what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from localgen.engine.backend import Work
from localgen.errors import LocalgenError
from localgen.llama.attention import SETTINGS, AttentionTimes, choose
from localgen.llama.library import logger

# Measuring takes about as long as so many tokens.
_WORTH_MEASURING = 128


class AttentionChoice:
    """fixed: the setting that does not depend on measurements. adapts: whether another one may be
    chosen; then ``fixed`` is "off". next: the setting of the next context. obstacle: why the faster
    setting cannot be used; None if it can.
    """

    def __init__(self, fixed: str, *, adapts: bool) -> None:
        self.fixed = self.next = fixed
        self.adapts = adapts
        self.times: AttentionTimes | None = None
        self.obstacle: str | None = None
        self._lost_seconds = 0.0
        self._ran = _Ran()
        self._n_tokens = 0  # computed so far

    def for_own_context(self) -> AttentionChoice:
        """Return a choice that knows what was measured, for another context of the same model."""
        other = AttentionChoice(self.fixed, adapts=self.adapts)
        other.times, other.obstacle = self.times, self.obstacle
        return other

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
        lost_seconds = self._lost(self.times, current)
        choice = choose(self.times, work, current, switch_seconds, lost_seconds)
        self.next = choice.setting
        return choice.keeps

    def stay(self, setting: str, error: LocalgenError) -> None:
        """Keep ``setting`` from now on: there was no context with the one that is faster."""
        self.obstacle = f"no context could be made with flash attention {self.next}: {error}"
        logger.warning("flash attention stays %s: %s", setting, self.obstacle)
        self.adapts = False
        self.fixed = self.next = setting

    def made(self) -> None:
        """Take note of a new context."""
        self._lost_seconds = 0.0
        self._ran = _Ran()

    def ran(self, n_prompt: int, n_rows: int, depth: int) -> None:
        """Take note of a pass of ``n_prompt`` prompt tokens, and of ``n_rows`` others at a depth.

        It only counts, as often as there are tokens; what that was worth is asked seldom.
        """
        self._n_tokens += n_prompt + n_rows
        self._ran.n_prompt += n_prompt
        self._ran.n_rows += n_rows
        self._ran.depths += n_rows * depth

    def _lost(self, times: AttentionTimes, current: str | None) -> float:
        """Return by how much the other setting would have been faster since the context was made;
        what it would have been slower by is forgotten."""
        ran, self._ran = self._ran, _Ran()
        if current in SETTINGS:
            depth = ran.depths // max(1, ran.n_rows)
            taken, other = (
                times.of(setting).of_pass(ran.n_prompt, ran.n_rows, depth)
                for setting in (current, "off" if current == "on" else "on")
            )
            self._lost_seconds = max(0.0, self._lost_seconds + taken - other)
        return self._lost_seconds


@dataclass(slots=True)
class _Ran:
    """Passes that nobody has valued yet. depths: the sum of the depths of all rows."""

    n_prompt: int = 0
    n_rows: int = 0
    depths: int = 0
