"""Finds what no other beats, of things with three costs each; it knows nothing of levels."""

from __future__ import annotations

import bisect
from typing import TypeAlias

# Bytes, slowness (tokens/s with a minus sign) and mean KLD of a level: the less, the better.
Costs: TypeAlias = tuple[float, float, float]


def unbeaten(costs: set[Costs]) -> set[Costs]:
    """Return the costs that no others equal or undercut in all three.

    Whatever beats one sorts before it. Of those before, it suffices to know the stairs: the lowest
    KLD for each slowness, which falls as the slowness rises.
    """
    found = set()
    slownesses: list[float] = []
    klds: list[float] = []
    for each in sorted(costs):
        _, slowness, kld = each
        place = bisect.bisect_right(slownesses, slowness)
        if place and klds[place - 1] <= kld:
            continue
        found.add(each)
        start = bisect.bisect_left(slownesses, slowness)
        end = start
        while end < len(klds) and klds[end] >= kld:
            end += 1
        slownesses[start:end], klds[start:end] = [slowness], [kld]
    return found
