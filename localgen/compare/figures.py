"""Checks figures that were read from a file; it measures nothing.

What cannot have been measured, such as a negative speed, would fail later, in a plot or a table,
without the name of its level.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from localgen.benchmark.measuring import Spread
from localgen.compare.level_result import ChatAgreement, LevelResult
from localgen.compare.task_metrics import PairedDifference
from localgen.errors import CompareError

# Of bytes, tokens and seconds: beyond what a machine has.
_MOST = 1e15
# A divergence of almost equal distributions may be this far below 0 by rounding.
_ROUNDING = 1e-3

_SIGNED = {(LevelResult, "ln_ppl_ratio"), (PairedDifference, "difference")}
_SIGNED |= {(PairedDifference, "low"), (PairedDifference, "high")}
_SHARES = {
    *("top1_agreement", "flips", "ece", "confidence", "accuracy", "accuracy_norm"),
    *("share_equal", "p_value"),
}
# An exponential.
_UNBOUNDED = {"perplexity", "perplexity_se"}


def check_figures(level: LevelResult) -> None:
    """Raise CompareError for a figure that cannot have been measured, with its level and name."""
    for name, value, low, high in _figures(level, ""):
        if not (math.isfinite(value) and low <= value <= high):
            expected = f"from {low:g} to {high:g}" if math.isfinite(high) else f"at least {low:g}"
            raise CompareError(
                f"{level.label}: {name} is {value:g}, and must be {expected}: the file is corrupt"
            )


def _figures(found: Any, prefix: str) -> list[tuple[str, float, float, float]]:
    """Return all numbers in a dataclass, with their names and ranges."""
    if isinstance(found, Spread):
        return [
            (f"{prefix}low", found.low, 0.0, found.median),
            (f"{prefix}median", found.median, 0.0, found.high),
            (f"{prefix}high", found.high, 0.0, _MOST),
        ]
    figures = []
    for field in dataclasses.fields(found):
        value, name = getattr(found, field.name), f"{prefix}{field.name}"
        for each in value if isinstance(value, tuple) else (value,):
            if dataclasses.is_dataclass(each):
                figures += _figures(each, f"{name}.")
            elif isinstance(each, int | float) and not isinstance(each, bool):
                figures.append((name, each, *_range(type(found), field.name)))
    return figures


def _range(kind: type, name: str) -> tuple[float, float]:
    is_share = name in _SHARES or (kind is ChatAgreement and name in ("low", "high"))
    high = 1 + _ROUNDING if is_share else math.inf if name in _UNBOUNDED else _MOST
    if (kind, name) in _SIGNED:
        return -_MOST, _MOST
    return (-_ROUNDING if name.startswith("kld") else 0.0), high
