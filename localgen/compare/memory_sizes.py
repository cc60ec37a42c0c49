"""Says which level to keep on machines with so much memory, from what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from localgen._util.format import as_size
from localgen.compare.level_result import LevelResult
from localgen.compare.recommend import facts, kld_of, memory_of, recommend, without_reference
from localgen.errors import CompareError

GB = 10**9
# Every report names these; larger ones follow, each twice the last, until all levels fit.
_SIZES = (4 * GB, 8 * GB, 16 * GB)
# The system and other programs need the rest.
SHARE = 0.75


@dataclass(frozen=True, slots=True)
class Advice:
    """What to keep on machines with ``sizes`` bytes of memory, the smallest first.

    is_open: whether it holds for all larger machines, too. keep: None if no level fits; not the
    reference. best: the level with the lowest KLD of those that fit, which may be the reference.
    """

    sizes: tuple[int, ...]
    is_open: bool
    keep: LevelResult | None
    best: LevelResult | None
    sentence: str

    @property
    def machine(self) -> str:
        """The machines: "4 GB", "8 and 16 GB", "32 GB and more"."""
        numbers = [f"{size // GB}" for size in self.sizes]
        if self.is_open:
            return f"{numbers[0]} GB and more"
        *first, last = numbers
        return f"{', '.join(first)} and {last} GB" if first else f"{last} GB"


def advice_by_size(
    levels: Sequence[LevelResult], *, max_kld: float | None = None
) -> tuple[Advice, ...]:
    """Return what to keep for each size of machine; () if only the reference was measured.

    It is the recommended level where that fits into ``SHARE`` of the memory, else the one with the
    lowest KLD that fits. Sizes with the same answer share one.
    """
    measured = [
        each
        for each in levels
        if each.error is None and kld_of(each) is not None and not each.is_pack
    ]
    choices = without_reference(measured)
    if not choices:
        return ()
    wanted = _recommended(levels, max_kld)
    found: list[tuple[int, LevelResult | None, LevelResult | None]] = []
    for size in _sizes(max(map(memory_of, measured))):
        fitting = [each for each in measured if memory_of(each) <= SHARE * size]
        keep = wanted if wanted in fitting else _closest(without_reference(fitting))
        found.append((size, keep, _closest(fitting)))
    return tuple(_grouped(found, min(choices, key=memory_of), max_kld))


def _closest(levels: Sequence[LevelResult]) -> LevelResult | None:
    return min(levels, key=lambda each: kld_of(each) or 0.0, default=None)


def _recommended(levels: Sequence[LevelResult], max_kld: float | None) -> LevelResult | None:
    try:
        return recommend(levels, max_kld=max_kld).level
    except CompareError:  # none is within max_kld
        return None


def _sizes(most: int) -> Iterator[int]:
    yield from _SIZES
    size = _SIZES[-1]
    while most > SHARE * size:
        size *= 2
        yield size


def _grouped(
    found: Sequence[tuple[int, LevelResult | None, LevelResult | None]],
    smallest: LevelResult,
    max_kld: float | None,
) -> Iterator[Advice]:
    start = 0
    for end in range(1, len(found) + 1):
        if end == len(found) or found[end][1:] != found[start][1:]:
            sizes = tuple(size for size, _, _ in found[start:end])
            _, keep, best = found[start]
            sentence = _sentence(keep, best, smallest, max_kld)
            yield Advice(sizes, end == len(found), keep, best, sentence)
            start = end


def _sentence(
    keep: LevelResult | None,
    best: LevelResult | None,
    smallest: LevelResult,
    max_kld: float | None,
) -> str:
    if keep is None or best is None:
        return f"none fits: the smallest, {smallest.label}, needs {as_size(memory_of(smallest))}"
    text = f"{keep.label} ({facts(keep)})"
    if max_kld is not None and (kld_of(keep) or 0.0) > max_kld:
        text += f", more than the KLD of {max_kld:g} that you allow"
    if keep != best:
        text += f"; {best.label} fits as well ({facts(best)})"
    return text
