"""Predicts the loss of any mixture from a few measured ones; pure arithmetic.

Measured are each group alone at a type of about 4.5 bits, and all groups that may have the same
types together at each of these. The loss of a group at another type is its own, times the ratio of
the two losses together; losses add up. Both hold for small losses, which grow with the square of
the weights' error: the more a type's error grows, the more the loss of every group does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from localgen.gguf.tensor_types import TENSOR_TYPES
from localgen.mixtures.groups import Group

# One type for each group; None keeps the source's.
Mixture = tuple[str | None, ...]

_PROBED_BITS = 4.5
_BITS = {kind.name: 8 * kind.n_bytes / kind.block for kind in TENSOR_TYPES.values()}


def probed_type(ladder: Sequence[str]) -> str:
    """Return the type that groups are measured at alone."""
    return min(ladder, key=lambda kind: abs(_BITS[kind] - _PROBED_BITS))


def planned(groups: Sequence[Group]) -> list[Mixture]:
    """Return the mixtures to measure, each once."""
    alone = [_alone(groups, number) for number in range(len(groups))]
    ladders = dict.fromkeys(group.ladder for group in groups)
    together = [_together(groups, ladder, kind) for ladder in ladders for kind in ladder]
    return list(dict.fromkeys([*alone, *together]))


def predicted(groups: Sequence[Group], measured: Mapping[Mixture, float]) -> list[list[float]]:
    """Return each group's losses: of the source's type, which has none, and of its ladder's.

    measured: the loss of each mixture in ``planned``.
    """
    found = []
    for number, group in enumerate(groups):
        own = max(0.0, measured[_alone(groups, number)])
        base = measured[_together(groups, group.ladder, probed_type(group.ladder))]
        together = [measured[_together(groups, group.ladder, kind)] for kind in group.ladder]
        ratios = [max(0.0, loss) / base if base > 0 else 0.0 for loss in together]
        found.append([0.0, *(own * ratio for ratio in ratios)])
    return found


def _alone(groups: Sequence[Group], number: int) -> Mixture:
    kind = probed_type(groups[number].ladder)
    return tuple(kind if i == number else None for i in range(len(groups)))


def _together(groups: Sequence[Group], ladder: tuple[str, ...], kind: str) -> Mixture:
    return tuple(kind if group.ladder == ladder else None for group in groups)
