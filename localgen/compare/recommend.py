"""Recommends a level to keep, from what was measured."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from localgen._util.checks import check_float, check_int
from localgen._util.format import as_size
from localgen.compare.level_result import LevelResult
from localgen.compare.pareto import Costs, unbeaten
from localgen.errors import CompareError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_Z95 = 1.96
# A line through two points has no knee.
_LEAST_FOR_A_KNEE = 3


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The level to keep, a sentence that says why, and the Pareto front of size, speed and KLD.

    level: None if too little was measured; the sentence then says what was.
    """

    level: LevelResult | None
    sentence: str
    front: tuple[LevelResult, ...]

    def keeps(self, level: LevelResult) -> bool:
        """Return whether ``level`` is the one to keep."""
        return self.level is not None and level.label == self.level.label


def parse_bytes(amount: int | str) -> int:
    """Return the bytes of 4000000000, "4GB", "4G" or "3.5 GiB". Raises ValueError."""
    if isinstance(amount, int):
        return check_int("memory", amount, 1)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", amount, re.IGNORECASE)
    if match is None:
        raise ValueError(
            f"{amount!r} is not an amount of memory. Write 4GB, 3.5GiB or a number of bytes."
        )
    unit = _UNITS[match[2].upper()]
    if match[3]:
        unit = 2 ** (10 * list(_UNITS).index(match[2].upper()))
    n_bytes = int(float(match[1]) * unit)
    if not n_bytes:
        raise ValueError(f"{amount!r} is no memory at all. Write 4GB, 3.5GiB or a number of bytes.")
    return n_bytes


def check_max_kld(max_kld: float | None) -> float | None:
    """Return the most that a mean KLD may be; raise ValueError for what none can be."""
    if max_kld is None:
        return None
    return check_float("max_kld", max_kld, "of at least 0", 0.0, math.inf)


def recommend(
    levels: Sequence[LevelResult], *, memory: int | str | None = None, max_kld: float | None = None
) -> Recommendation:
    """Return the level to keep: the smallest on the Pareto front with at most ``max_kld``.

    Without ``max_kld``, it is the knee of size against KLD. memory: the most that a process may
    take at its peak (or that its file may take, if the peak was not measured). The reference, which
    the others are measured by, is on the front and is not recommended. Without a limit, two levels
    have no knee, so neither is recommended; nor is a single one. Raises CompareError with the
    closest level if none fits.
    """
    measured = [level for level in levels if level.error is None and kld_of(level) is not None]
    if all(level.kld_mean is None for level in measured):
        raise CompareError("no level's quality was measured, so none can be recommended")
    limit, max_kld = None if memory is None else parse_bytes(memory), check_max_kld(max_kld)
    if all(level.is_reference for level in measured):
        return _only(measured)
    good = _within(measured, limit, max_kld)
    front = pareto(good)
    if limit is None and max_kld is None and len(front) < _LEAST_FOR_A_KNEE:
        return _without_knee(front, measured)
    choices = [level for level in front if not level.is_reference]
    if not choices:
        return _beaten_by_reference(front)
    chosen = min(choices, key=_bytes) if max_kld is not None else _knee(front)
    return Recommendation(chosen, _sentence(chosen, front, measured, limit, max_kld), front)


def _within(
    measured: Sequence[LevelResult], limit: int | None, max_kld: float | None
) -> list[LevelResult]:
    """Return the levels within both limits, with at least one beside the reference."""
    fitting = [level for level in measured if limit is None or memory_of(level) <= limit]
    if not (others := without_reference(fitting)):
        least = min(without_reference(measured), key=memory_of)
        raise CompareError(
            f"no level fits in {as_size(limit or 0)}: the smallest, {least.label}, needs "
            f"{as_size(memory_of(least))}"
        )
    good = [level for level in fitting if max_kld is None or (kld_of(level) or 0.0) <= max_kld]
    if not without_reference(good):
        best = min(others, key=lambda level: kld_of(level) or 0.0)
        raise CompareError(
            f"no level that fits has a mean KLD of at most {max_kld}: the best, {best.label}, has "
            f"{best.kld_mean:.4f}"
        )
    return good


def without_reference(levels: Sequence[LevelResult]) -> list[LevelResult]:
    """Return the levels that can be recommended: all but the one that they are measured by."""
    return [level for level in levels if not level.is_reference]


def pareto(levels: Sequence[LevelResult]) -> tuple[LevelResult, ...]:
    """Return the levels that no other beats in size, speed and KLD at once, smallest first."""
    front = unbeaten({_costs(level) for level in levels})
    return tuple(sorted((each for each in levels if _costs(each) in front), key=_bytes))


def _costs(level: LevelResult) -> Costs:
    speed = level.decode_tps.median if level.decode_tps else 0.0
    return _bytes(level), -speed, kld_of(level) or 0.0


def _knee(front: Sequence[LevelResult]) -> LevelResult:
    """Return the level farthest below the line from the smallest to the best; not the reference.

    Both axes are scaled to 0 to 1 (Satopää et al., "Finding a Kneedle in a Haystack", 2011).
    """
    choices = without_reference(front)
    small, best = front[0], min(front, key=lambda level: kld_of(level) or 0.0)
    width = _bytes(best) - _bytes(small)
    height = (kld_of(small) or 0.0) - (kld_of(best) or 0.0)
    if not width or not height:
        return min(choices, key=lambda level: kld_of(level) or 0.0)

    def depth(level: LevelResult) -> float:
        x = (_bytes(level) - _bytes(small)) / width
        y = ((kld_of(level) or 0.0) - (kld_of(best) or 0.0)) / height
        return 1 - x - y

    return max(choices, key=depth)


def _without_knee(
    front: tuple[LevelResult, ...], measured: Sequence[LevelResult]
) -> Recommendation:
    """Return the level that beats all others, or no level."""
    if not without_reference(front):
        return _beaten_by_reference(front)
    if len(measured) == 1:
        return _only(measured)
    if len(front) == 1:
        why = "is the smallest, and no other level is faster or has a lower KLD"
        return Recommendation(front[0], _keep(front[0], why, measured), front)
    found = " and ".join(f"{level.label} ({facts(level)})" for level in front)
    others = ", which beat the others" if len(measured) > len(front) else ""
    return Recommendation(
        None,
        f"Too few levels to recommend one: {found}{others}. A knee needs {_LEAST_FOR_A_KNEE} "
        f"levels that no other beats. Compare more levels, or set --max-kld or --budget.",
        front,
    )


def _only(measured: Sequence[LevelResult]) -> Recommendation:
    first = measured[0]
    sentence = (
        f"Only {first.label} was measured ({facts(first)}). Compare more levels to get a "
        f"recommendation."
    )
    return Recommendation(None, sentence, tuple(measured))


def _beaten_by_reference(front: tuple[LevelResult, ...]) -> Recommendation:
    first = front[0]
    sentence = (
        f"Nothing to recommend: no level is smaller or faster than {first.label} ({facts(first)})."
    )
    return Recommendation(None, sentence, front)


def _sentence(
    chosen: LevelResult,
    front: Sequence[LevelResult],
    measured: Sequence[LevelResult],
    limit: int | None,
    max_kld: float | None,
) -> str:
    asked = [f"fits in {as_size(limit)}"] if limit is not None else []
    asked += [f"stays within a mean KLD of {max_kld:g}"] if max_kld is not None else []
    if max_kld is not None or len(front) < _LEAST_FOR_A_KNEE:
        why = f"is the smallest that {' and '.join(asked)}"
    else:
        why = _why_knee(chosen, measured)
        why += f", among the levels that fit in {as_size(limit)}" if limit is not None else ""
    return _keep(chosen, why, measured)


def _keep(chosen: LevelResult, why: str, measured: Sequence[LevelResult]) -> str:
    reference = next((level for level in measured if level.is_reference), None)
    same = _indistinguishable(chosen, reference)
    return f"Keep {chosen.label}: it {why} ({facts(chosen)}){same}."


def facts(level: LevelResult) -> str:
    """Return what decides, as text: "5.00 GB, mean KLD 0.0400, 25 tokens/s"."""
    text = as_size(_bytes(level))
    text += ", the reference" if level.is_reference else f", mean KLD {level.kld_mean or 0:.4f}"
    if level.decode_tps:
        text += f", {level.decode_tps.median:.0f} tokens/s"
    return text


def _why_knee(chosen: LevelResult, measured: Sequence[LevelResult]) -> str:
    if chosen is min(measured, key=_bytes):
        return "is the knee of size against KLD, and the smallest level measured"
    return "is the knee of size against KLD, below which smaller files lose the most quality"


def _indistinguishable(chosen: LevelResult, reference: LevelResult | None) -> str:
    """Return a note if the perplexity's paired interval against the reference covers zero."""
    ratio, se = chosen.ln_ppl_ratio, chosen.ln_ppl_ratio_se
    if reference is None or chosen.is_reference:
        return ""
    if ratio is not None and se is not None and abs(ratio) <= _Z95 * se:
        return f"; its perplexity is not distinguishable from {reference.label}'s"
    return ""


def kld_of(level: LevelResult) -> float | None:
    """Return the mean KLD, which the reference has without being measured; None if unknown."""
    return 0.0 if level.is_reference and level.kld_mean is None else level.kld_mean


def _bytes(level: LevelResult) -> int:
    return level.file_bytes or 0


def memory_of(level: LevelResult) -> int:
    """Return the bytes that a process needs at its peak, or the file's if that is unknown."""
    return level.peak_rss_bytes or _bytes(level)
