"""Chooses whether passes run with flash attention, by the measured seconds of both settings.

It knows numbers only: ``attention_probe`` measures them, and ``backend`` makes contexts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from localgen._util.checks import check_int
from localgen.engine.backend import Work

_Seconds = npt.NDArray[np.float64]

SETTINGS = ("off", "on")
# A KV cache is made anew only for a gain of this many times its cost: the work may end early.
_HYSTERESIS = 2.0
# Between the first and the last step, a sum over steps is taken at this many points.
_POINTS = 16
# Two settings of the same pass never differ by more than this; such numbers are a disturbance.
_MOST_RATIO = 20.0
# A file with more than that is damaged.
_MOST_DEPTH, _MOST_SECONDS = 2**31, 1e6


@dataclass(frozen=True, slots=True)
class PassSeconds:
    """Measured seconds of passes in one setting.

    step: of a pass of one token, at each of ``depths`` (tokens that it attends to, rising).
    prefill: of a long pass, for each of its tokens.
    """

    depths: tuple[int, ...]
    step: tuple[float, ...]
    prefill: float

    def __post_init__(self) -> None:
        numbers = (*self.step, self.prefill)
        if not all(math.isfinite(number) and number > 0 for number in numbers):
            raise ValueError(f"seconds must be finite and above 0, got {numbers}")
        if not self.depths or len(self.step) != len(self.depths):
            raise ValueError(f"{len(self.step)} steps were measured at depths {self.depths}")
        if any(a >= b for a, b in zip(self.depths, self.depths[1:], strict=False)):
            raise ValueError(f"depths must rise, got {self.depths}")

    def of_steps(self, first: float, n_steps: int) -> _Seconds:
        """Return the seconds of ``n_steps`` steps from depth ``first`` on, as (points,) shares.

        Between two depths the seconds rise evenly, and after the last one as before it.
        """
        at = first + n_steps * (np.arange(_POINTS) + 0.5) / _POINTS
        return self._of_step(at) * (n_steps / _POINTS)

    def of_pass(self, n_prompt: int, n_rows: int, depth: int) -> float:
        """Return the seconds of ``n_prompt`` prompt tokens, and of ``n_rows`` others at a depth."""
        return n_prompt * self.prefill + n_rows * float(self._of_step(np.array(depth, np.float64)))

    def _of_step(self, at: _Seconds) -> _Seconds:
        seconds: _Seconds = np.interp(at, self.depths, self.step)
        if len(self.depths) > 1:
            rise = (self.step[-1] - self.step[-2]) / (self.depths[-1] - self.depths[-2])
            seconds = seconds + np.maximum(at - self.depths[-1], 0) * max(rise, 0.0)
        return seconds


@dataclass(frozen=True, slots=True)
class AttentionTimes:
    """Seconds of passes without and with flash attention, measured in turns."""

    off: PassSeconds
    on: PassSeconds

    def __post_init__(self) -> None:
        if self.off.depths != self.on.depths:
            raise ValueError("both settings must be measured at the same depths")
        pairs = zip(
            (*self.off.step, self.off.prefill), (*self.on.step, self.on.prefill), strict=True
        )
        if any(max(a / b, b / a) > _MOST_RATIO for a, b in pairs):
            raise ValueError(f"two settings of one pass differ too much: {self}")

    def as_data(self) -> dict[str, Any]:
        """Return it as what JSON can hold; see ``from_data``."""
        return {
            "depths": list(self.off.depths),
            **{
                setting: {"step": list(self.of(setting).step), "prefill": self.of(setting).prefill}
                for setting in SETTINGS
            },
        }

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> AttentionTimes:
        """Return what ``as_data`` was made of. Raises ValueError for anything else."""
        try:
            depths = tuple(check_int("depths", depth, 0, _MOST_DEPTH) for depth in data["depths"])
            found = {
                setting: PassSeconds(
                    depths,
                    tuple(_seconds(number) for number in data[setting]["step"]),
                    _seconds(data[setting]["prefill"]),
                )
                for setting in SETTINGS
            }
        except (KeyError, TypeError) as error:
            raise ValueError(f"not times of attention: {error!r}") from None
        return cls(**found)

    def of(self, setting: str) -> PassSeconds:
        return self.on if setting == "on" else self.off


def _seconds(number: object) -> float:
    if type(number) not in (int, float) or not 0 < number < _MOST_SECONDS:  # type: ignore[operator]
        raise ValueError(f"seconds must be a number up to {_MOST_SECONDS:g}, got {number!r:.80}")
    return float(number)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Choice:
    """setting: the better one for a KV cache that is made now. keeps: whether the one that there is
    should stay, although it may have the other setting."""

    setting: str
    keeps: bool


def choose(
    times: AttentionTimes,
    work: Work,
    current: str | None,
    switch_seconds: float,
    lost_seconds: float = 0.0,
) -> Choice:
    """Return the setting for ``work``, and whether a KV cache with ``current`` should stay.

    switch_seconds: what it takes to make the KV cache anew with all that it holds. lost_seconds:
    by how much the other setting would have been faster since the KV cache was made. It counts as
    much as what can be gained: a chat of many short calls should end up in the right setting.
    """
    prefill = {each: work.n_prompt * times.of(each).prefill for each in SETTINGS}
    steps = {
        each: work.n_rows * times.of(each).of_steps(work.depth, work.n_steps) for each in SETTINGS
    }
    stays = {each: prefill[each] + float(steps[each].sum()) for each in SETTINGS}
    starts = {
        each: min(stays[each], prefill[each] + _switching_seconds(steps, each, switch_seconds))
        for each in SETTINGS
    }
    now = prefill if work.n_prompt else {each: float(steps[each][0]) for each in SETTINGS}
    setting = min(SETTINGS, key=lambda each: (starts[each], now[each]))
    if current is None:
        return Choice(setting, keeps=True)
    other = "off" if current == "on" else "on"
    gain = stays[current] - starts[other] + lost_seconds
    return Choice(setting, keeps=now[other] >= now[current] or gain <= _HYSTERESIS * switch_seconds)


def _switching_seconds(steps: dict[str, _Seconds], first: str, switch_seconds: float) -> float:
    """Return the seconds of ``steps`` (points,) in the faster setting each, from ``first`` on."""
    is_on = steps["on"] < steps["off"]
    n_switches = int(np.diff(is_on, prepend=first == "on").astype(bool).sum())
    return float(np.minimum(steps["off"], steps["on"]).sum()) + n_switches * switch_seconds
