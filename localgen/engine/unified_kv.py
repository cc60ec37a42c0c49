"""When sequences share the cells of their prefix, how many cells they need, and who has them.

With a KV stream of its own a sequence attends to as many cells as the longest one has tokens. With
one stream for all it attends to the cells of all, but a prefix that they share is there once,
and attention passes over it for all sequences in one matrix product, which takes less time for
each. So sharing is faster where the prefix is long, the ends are short and the sequences many.
Beams always share: they become copies of each other, and a copy of shared cells moves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass

from localgen.engine.backend import TokenIds
from localgen.engine.prefix_matcher import common_length
from localgen.engine.sequence import CachedSequence, Sequence
from localgen.engine.slots import Item

_MIN_PREFIX = 32
# Sharing is chosen if all cells are at most this many times those of the longest sequence, and at
# most half as many times as there are sequences: benchmarks/layouts.py measures both sides.
_MOST_CELLS = 6
_CELLS = 256


@dataclass(frozen=True, slots=True)
class Plan:
    """How sequences share cells.

    prefix: the tokens (n,) that they share. n_cells, n_slots: for all of them. kept: what stays
    cached, the one that they can continue from first; ``first_kept_shares``: it holds all of the
    prefix.
    """

    prefix: TokenIds
    n_cells: int
    n_slots: int
    kept: list[CachedSequence]
    first_kept_shares: bool


def plan_sharing(
    waiting: Items[Sequence], cached: Items[CachedSequence], max_slots: int
) -> Plan | None:
    """Return how these sequences would share cells, beside the pinned ones of ``cached``; None if
    each of them is better off with a KV stream of its own."""
    prefix = _common_prefix(waiting)
    copies = any(sequence.group for sequence in waiting)
    if len(prefix) < _MIN_PREFIX:
        if not copies:
            return None
        prefix = prefix[:0]  # so few tokens may be computed for each
    matching = max(cached, key=lambda each: common_length(each.token_ids, prefix), default=None)
    if matching is not None and common_length(matching.token_ids, prefix) < _MIN_PREFIX:
        matching = None
    kept = [] if matching is None else [matching]
    kept += [each for each in cached if each.is_pinned and each is not matching]
    shares = matching is not None and common_length(matching.token_ids, prefix) == len(prefix)
    lengths = [len(sequence.tokens) for sequence in waiting]
    n_cells = len(prefix) + sum(lengths) - len(lengths) * len(prefix)
    if n_cells > min(_MOST_CELLS, len(lengths) / 2) * max(lengths) and not copies:
        return None
    n_cells += sum(len(each.token_ids) for each in kept)
    if shares:
        n_cells -= len(prefix)
    n_slots = min(len(lengths) + len(kept), max_slots)
    return Plan(prefix, -(-n_cells // _CELLS) * _CELLS, n_slots, kept, shares)


def n_cells_of(group: Items[Sequence]) -> int:
    """Return how many cells are enough for a group of sequences with the same prompt."""
    n_prompt = group[0].n_prompt
    n_shared = n_prompt if n_prompt >= _MIN_PREFIX else 0
    n_cells = n_shared + sum(len(each.tokens) - n_shared for each in group)
    return -(-n_cells // _CELLS) * _CELLS


@dataclass(frozen=True, slots=True)
class Claim:
    """Cells for one sequence: what is dropped for them, and whether it shares the prefix's."""

    drops: list[CachedSequence]
    shares: bool


class SharedCells:
    """Counts the cells of one KV stream by what each sequence may come to need, so that llama.cpp
    never runs out of them.

    prefix: the tokens (n,) whose cells are there once.
    """

    def __init__(self, plan: Plan) -> None:
        self.prefix = plan.prefix
        # Those that hold, or will hold, the very cells of the prefix.
        self._holders: set[Item] = set(plan.kept[:1] if plan.first_kept_shares else ())

    def n_taken(self, items: Iterable[Item | None]) -> int:
        """Return how many cells are taken at most: each sequence may come to its end, and there is
        always room for the prefix."""
        return len(self.prefix) + sum(self._n_own(item) for item in items if item is not None)

    def claim(
        self, sequence: Sequence, source: Item | None, items: Items[Item | None], n_cells: int
    ) -> Claim | None:
        """Propose cells for a new sequence, on top of what it shares with ``source``; None if it
        has to wait. Where there is no room beside ``source``, that is dropped as well."""
        # Sequences that ended early and what gave up its seq_id hold no cells any more.
        self._holders = {item for item in self._holders if item.seq_id is not None}
        has_prefix = common_length(sequence.prompt_ids, self.prefix) == len(self.prefix)
        for spared in self._spared(source):
            holders = self._holders if spared is source else self._holders - {source}
            shares = has_prefix and (spared in holders or not holders)
            needed = len(sequence.tokens) - (len(self.prefix) if shares else 0)
            forced = [source] if spared is not source and source is not None else []
            drops = self._drops(needed, spared, forced, items, n_cells)
            if drops is not None:
                return Claim(drops, shares)
        return None

    def take(self, sequence: Sequence, claim: Claim) -> None:
        """Note that a claim was carried out."""
        self._holders.difference_update(claim.drops)
        if claim.shares:
            self._holders.add(sequence)

    def leave(self, sequence: Sequence, cached: CachedSequence) -> None:
        """Note that a sequence left ``cached``, which holds the prefix if it came so far."""
        if sequence in self._holders and len(cached.token_ids) >= len(self.prefix):
            self._holders.add(cached)
        self._holders.discard(sequence)

    def lose_all(self, running: Items[Sequence]) -> None:
        """Note that all cells are empty: one sequence computes the prefix again, for all that
        share it."""
        self._holders.intersection_update(running)
        if not len(self.prefix):
            return
        sharing = [sequence for sequence in running if sequence in self._holders]
        for sequence in sharing[1:]:
            # The last token is computed in any case, for its logits.
            n_shared = min(len(self.prefix), sequence.n_tokens - 1)
            sequence.waits_for = (sharing[0], n_shared)

    def clear(self) -> None:
        """Note that nothing is held any more."""
        self._holders.clear()

    @staticmethod
    def _spared(source: Item | None) -> Iterator[Item | None]:
        """What to spare when cells are made free: the source, then nothing if it may be dropped."""
        yield source
        if isinstance(source, CachedSequence) and not source.is_pinned:
            yield None

    def _drops(
        self,
        needed: int,
        spared: Item | None,
        forced: list[Item],
        items: Items[Item | None],
        n_cells: int,
    ) -> list[CachedSequence] | None:
        """Return what to drop, least recently used first, for ``needed`` cells; None if that is not
        enough."""
        drops = [item for item in forced if isinstance(item, CachedSequence)]
        idle = sorted(
            (
                item
                for item in items
                if isinstance(item, CachedSequence)
                and not item.is_pinned
                and item is not spared
                and item not in drops
            ),
            key=lambda cached: cached.last_used,
        )
        n_free = n_cells - self.n_taken(items) + sum(map(self._n_own, drops))
        for cached in idle:
            if n_free >= needed:
                break
            n_free += self._n_own(cached)
            drops.append(cached)
        return drops if n_free >= needed else None

    def _n_own(self, item: Item) -> int:
        n_tokens = len(item.token_ids if isinstance(item, CachedSequence) else item.tokens)
        return n_tokens - (len(self.prefix) if item in self._holders else 0)


def _common_prefix(sequences: Items[Sequence]) -> TokenIds:
    first = sequences[0].prompt_ids
    n_common = min(common_length(first, each.prompt_ids) for each in sequences)
    return first[:n_common]
