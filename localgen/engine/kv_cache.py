"""Which sequence slots of the KV cache are in use; it knows slot numbers, not tensors.

Slots are kept dense (0 … n-1): with one KV stream a sequence, llama.cpp evaluates only runs of
*consecutive* sequence ids in one graph, so a hole among the running slots would cost a second
pass over the weights at every step.
"""

from __future__ import annotations

import heapq


class Slots:
    """Free and used slot numbers; the lowest free one is handed out first."""

    def __init__(self, n_slots: int) -> None:
        self._free = list(range(n_slots))
        self._used: set[int] = set()

    @property
    def n_free(self) -> int:
        return len(self._free)

    def acquire(self) -> int:
        slot = heapq.heappop(self._free)
        self._used.add(slot)
        return slot

    def release(self, slot: int) -> None:
        self._used.remove(slot)
        heapq.heappush(self._free, slot)

    def moves_to_close_holes(self) -> list[tuple[int, int]]:
        """(from, to) pairs that make the used slots consecutive again; empty if they are."""
        used = sorted(self._used)
        if not used or used[-1] - used[0] == len(used) - 1:
            return []
        n_used = len(used)
        holes = [slot for slot in range(n_used) if slot not in self._used]
        return list(zip([slot for slot in used if slot >= n_used], holes, strict=True))

    def move(self, source: int, target: int) -> None:
        """Record that what was in ``source`` now is in ``target``, which was free."""
        self._free.remove(target)
        heapq.heapify(self._free)
        self._used.add(target)
        self.release(source)
