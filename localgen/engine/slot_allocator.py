"""Propose which seq_id a new sequence gets, and what moves or is dropped for it; pure functions.

The running sequences' seq_ids are kept next to each other: with one KV stream per sequence,
llama.cpp evaluates only *consecutive* ones in one graph, and a hole among them would cost a second
pass over the weights at every step. What stands in the way moves to another seq_id, or is dropped:
what was used least recently first, and what is pinned never.
"""

from __future__ import annotations

from collections.abc import Sequence as Items

from localgen.engine.sequence import CachedSequence, Sequence

Item = Sequence | CachedSequence | None


def seq_id_for(
    items: Items[Item], source: CachedSequence | None, n_shared: int, *, copies: bool
) -> int | None:
    """Return the free seq_id for a new sequence, next to the running ones; None if there is none.

    source: what begins like the sequence, for ``n_shared`` tokens. copies: whether it is worth a
    copy, and so to be left where it is.
    """
    places = _places(items)
    if not places:
        return None
    if source is not None and source.seq_id in places and _is_used_up(source, n_shared):
        return source.seq_id
    keep = source if copies else None
    seq_id = min(places, key=lambda place: _cost(items, place, keep))
    if _must_stay(items[seq_id], None) and _cheapest(items, seq_id, keep) is None:
        # What is pinned there can only move to where the source is.
        return min(places, key=lambda place: _cost(items, place, None))
    return seq_id


def relocation_target(items: Items[Item], seq_id: int, spare: CachedSequence | None) -> int | None:
    """Return the free seq_id to which what is cached under ``seq_id`` should move; None to drop it.

    spare: something cached that must not be overwritten, unless what moves is pinned.
    """
    cached = items[seq_id]
    assert isinstance(cached, CachedSequence)
    target = _cheapest(items, seq_id, spare)
    if target is None and cached.is_pinned:
        target = _cheapest(items, seq_id, None)
    there = None if target is None else items[target]
    if isinstance(there, CachedSequence) and not cached.is_pinned:
        return None if there.last_used > cached.last_used else target
    return target


def hole(items: Items[Item]) -> tuple[Sequence, int] | None:
    """Return the running sequence with the highest seq_id and the lowest free one between running
    ones, to which it should move; None if there is no hole to close."""
    running = [item for item in items if isinstance(item, Sequence)]
    if not running:
        return None
    low, high = running[0].held_seq_id, running[-1].held_seq_id
    if high - low == len(running) - 1:
        return None
    if len(running) + _n_pinned(items) == len(items):
        return None  # what is pinned in the hole can move nowhere
    free = (place for place in range(low, high) if not isinstance(items[place], Sequence))
    return running[-1], next(free)


def _places(items: Items[Item]) -> list[int]:
    """Free seq_ids that leave the running ones without a hole."""
    running = [seq_id for seq_id, item in enumerate(items) if isinstance(item, Sequence)]
    if len(running) + _n_pinned(items) >= len(items):
        return []
    free = [seq_id for seq_id, item in enumerate(items) if not isinstance(item, Sequence)]
    if not running:
        return free
    low, high = running[0], running[-1]
    inside = [seq_id for seq_id in free if low < seq_id < high]
    return inside or [seq_id for seq_id in free if seq_id in (low - 1, high + 1)]


def _n_pinned(items: Items[Item]) -> int:
    return sum(isinstance(item, CachedSequence) and item.is_pinned for item in items)


def _cost(items: Items[Item], seq_id: int, keep: CachedSequence | None) -> tuple[bool, bool, int]:
    """Return how much is lost by overwriting a free seq_id."""
    cached = items[seq_id]
    if not isinstance(cached, CachedSequence):
        return (False, False, -1)
    return (cached is keep, cached.is_pinned, cached.last_used)


def _must_stay(item: Item, spare: CachedSequence | None) -> bool:
    return isinstance(item, CachedSequence) and (item.is_pinned or item is spare)


def _cheapest(items: Items[Item], excluding: int, spare: CachedSequence | None) -> int | None:
    """Return the free seq_id, other than ``excluding``, whose content is the least loss."""
    places = [
        seq_id
        for seq_id, item in enumerate(items)
        if seq_id != excluding and not isinstance(item, Sequence) and not _must_stay(item, spare)
    ]
    return min(places, key=lambda place: _cost(items, place, None)) if places else None


def _is_used_up(cached: CachedSequence, n_shared: int) -> bool:
    """Return whether a sequence may continue in the place of what is cached: little is lost."""
    return not cached.is_pinned and 2 * n_shared >= len(cached.token_ids)
