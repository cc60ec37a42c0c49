"""Which tokens go into the next forward pass; it knows sequences, not logits.

Sequences that decode come first, one token each, and their drafts; the room that is left goes to
prompts in the order in which they came, in chunks where a prompt is longer than the room. A waiting
sequence enters as soon as a seq_id is free. One whose prompt begins like that of a sequence that is
being computed waits for it, and then copies it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from localgen.engine.backend import Backend, Batch
from localgen.engine.kv_cache import KvCache
from localgen.engine.sequence import Sequence

# Whether the KV cache still suits its sequences is asked after prompts, and after this many steps.
_PASSES_BETWEEN_LOOKS = 32


@dataclass(slots=True, eq=False)
class Scheduled:
    """A sequence's part of a pass.

    n_tokens: those that are not in the KV cache yet, as far as there was room. draft: further ones
    after its last token. n_outputs: rows of logits, of the last of these tokens.
    """

    sequence: Sequence
    n_tokens: int
    draft: tuple[int, ...] = ()
    n_outputs: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """A forward pass: its batch, and what is in it, in the batch's order.

    has_prompt_tokens: whether a prompt is computed in it, or computed again.
    """

    batch: Batch
    scheduled: list[Scheduled]
    has_prompt_tokens: bool


class Scheduler:
    """The sequences of all calls: those that run, in seq_id order, and those that wait.

    serial: a forward pass holds tokens of one sequence only, so that no sequence's logits depend on
    what else runs. reserved: new tokens that a sequence gets room for at a time; None is all of
    them.
    """

    def __init__(
        self,
        backend: Backend,
        kv_cache: KvCache,
        *,
        serial: bool = False,
        reserved: int | None = None,
    ) -> None:
        self._backend = backend
        self._kv_cache = kv_cache
        self._serial = serial
        self._reserved = reserved
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        # The pass of a step in which every running sequence decodes: until one comes or goes, the
        # next step has the same sequences with other tokens.
        self._steady: Pass | None = None
        self._n_until_look = 0

    def add(self, sequences: Iterable[Sequence]) -> None:
        """Let sequences wait."""
        for sequence in sequences:
            self._reserve(sequence)
            self.waiting.append(sequence)
        self._steady = None

    def add_first(self, sequence: Sequence) -> None:
        """Let a sequence wait before all others."""
        self.waiting.appendleft(sequence)
        self._steady = None

    def restart(self, unfinished: list[Sequence]) -> None:
        """Run these sequences, of which nothing is in the KV cache any more, from their start."""
        for sequence in unfinished:
            sequence.seq_id, sequence.n_kv, sequence.n_cached = None, 0, 0
            sequence.waits_for, sequence.draft = None, ()
        self.waiting = deque(sorted(unfinished, key=lambda sequence: sequence.order))
        self.running = []
        self._steady = None

    def schedule(self, should_stop: Callable[[], bool] | None = None) -> Pass | None:
        """Return the next pass; None if there is nothing to run.

        It is valid until the next call. Raises PassStopped as ``KvCache.make_room`` does.
        """
        if self._backend.adapts:
            self._look(should_stop)
        if self._kv_cache.notice_loss():
            self._steady = None
        if self._steady is not None and self._fill_steady(self._steady.batch):
            return self._steady
        self._requeue_full()
        self._admit(should_stop)
        scheduled = self._choose()
        if not scheduled:
            return None
        has_prompt_tokens = any(each.sequence.n_kv < each.sequence.n_prompt for each in scheduled)
        found = Pass(_batch(scheduled), scheduled, has_prompt_tokens)
        if has_prompt_tokens:
            self._n_until_look = 0
        is_steady = [each.sequence for each in scheduled] == self.running and all(
            each.n_tokens == 1 and not each.draft for each in scheduled
        )
        self._steady = found if is_steady and not has_prompt_tokens else None
        return found

    def _look(self, should_stop: Callable[[], bool] | None) -> None:
        """Let the KV cache be made anew if what is left of the work would be faster in another."""
        if self.waiting and self._steady is None:
            return  # making room for them looks at all
        if self._n_until_look:
            self._n_until_look -= 1
            return
        self._n_until_look = _PASSES_BETWEEN_LOOKS
        self._kv_cache.make_suitable(should_stop)

    def _fill_steady(self, batch: Batch) -> bool:
        """Fill the batch of the last step with each sequence's last token; False if that is not
        what they need now."""
        # Plain stores: after a forward pass the caches are cold, NumPy's machinery included.
        token_ids, positions = batch.token_ids, batch.positions
        n_ctx_seq = self._backend.n_ctx_seq
        for index, sequence in enumerate(self.running):
            n_kv = sequence.n_kv
            if sequence.n_tokens - n_kv != 1 or sequence.draft or n_kv >= n_ctx_seq:
                return False
            token_ids[index] = sequence.last_token
            positions[index] = n_kv
        return True

    def _reserve(self, sequence: Sequence) -> None:
        """Let a sequence ask for room for its next tokens. Those of a group, which starts together,
        and those that are evaluated have room for all from their start."""
        if self._reserved is not None and not sequence.group and not sequence.is_evaluated:
            sequence.reserve(self._reserved)

    def _requeue_full(self) -> None:
        """Let running sequences that have no room left wait for more. They find what they leave in
        the KV cache as soon as there is a longer one, or others have ended."""
        n_ctx_seq = self._backend.n_ctx_seq
        full = [sequence for sequence in self.running if sequence.n_tokens > n_ctx_seq]
        for sequence in full:
            self.running.remove(sequence)
            self._kv_cache.release(sequence)
            sequence.n_kv, sequence.waits_for, sequence.draft = 0, None, ()
            self._reserve(sequence)
        if full:
            self.waiting = deque(sorted([*full, *self.waiting], key=lambda each: each.order))

    def decoded(self, done: Pass) -> None:
        """Record that a pass is in the KV cache."""
        for each in done.scheduled:
            each.sequence.n_kv += each.n_tokens + len(each.draft)

    def not_decoded(self) -> None:
        """Record that a pass is not in the KV cache."""
        self._steady = None

    def share_prompt(self, sequence: Sequence) -> list[Sequence]:
        """Give the sequences that share this one's prompt, just computed, their own copy of it."""
        if sequence.n_new or sequence.n_pending:
            return []
        sharing = [each for each in self.running if each.prompt_of is sequence and not each.n_kv]
        for each in sharing:
            self._kv_cache.share_prompt(sequence, each)
        return sharing

    def retire(self, finished: Iterable[Sequence]) -> None:
        """Take finished sequences out, and close the holes that no waiting one will fill."""
        self._steady = None
        ended = set(finished)
        if any(sequence.seq_id is None for sequence in ended):
            self.waiting = deque(each for each in self.waiting if each not in ended)
        for sequence in [sequence for sequence in self.running if sequence in ended]:
            self.running.remove(sequence)
            self._kv_cache.release(sequence)
        if not self.waiting and self._kv_cache.close_holes():
            self._sort()

    def _admit(self, should_stop: Callable[[], bool] | None) -> None:
        if self.waiting:
            self._kv_cache.make_room(self.waiting, should_stop)
        # In order: a long sequence that does not fit yet is not overtaken forever by short ones.
        while self.waiting and (admitted := self._admit_first()):
            self.running.extend(admitted)
        self._kv_cache.close_holes()
        self._sort()
        for sequence in self.running:
            self._kv_cache.copy_when_ready(sequence)

    def _admit_first(self) -> list[Sequence]:
        """Return the sequences that got a seq_id: the first that waits, and those of its group that
        wait; none if it must wait."""
        first = self.waiting[0]
        if not first.group:
            return [self.waiting.popleft()] if self._kv_cache.admit(first) else []
        group = [each for each in self.waiting if each in first.group]
        if not self._kv_cache.admit_group(group):
            return []
        self.waiting = deque(each for each in self.waiting if each not in group)
        return group

    def _sort(self) -> None:
        self.running.sort(key=lambda sequence: sequence.held_seq_id)

    def _choose(self) -> list[Scheduled]:
        """What each sequence puts into the next pass, in seq_id order."""
        if self._serial:
            return self._choose_first()
        room = self._backend.n_batch
        chosen: dict[Sequence, Scheduled] = {}
        prompts = []
        for sequence in self.running:
            if sequence.n_pending == 1 and not _waits(sequence):
                chosen[sequence] = Scheduled(sequence, 1)
                room -= 1
            elif sequence.n_pending and not _waits(sequence):
                prompts.append(sequence)
        drafting = [each for each in chosen.values() if each.sequence.draft]
        if sum(len(each.sequence.draft) for each in drafting) > room:
            most = room // len(drafting)  # the same for all, so that equal ones stay equal
        else:
            most = room
        for each in drafting:
            each.draft = self._draft(each.sequence, most)
            room -= len(each.draft)
        for sequence in sorted(prompts, key=lambda sequence: sequence.order):
            num_scheduled_tokens = min(sequence.n_pending, room)
            if num_scheduled_tokens:
                chosen[sequence] = Scheduled(sequence, num_scheduled_tokens)
                room -= num_scheduled_tokens
        # Those that decode were chosen in seq_id order already.
        scheduled = [*chosen.values()]
        return sorted(scheduled, key=lambda s: s.sequence.held_seq_id) if prompts else scheduled

    def _choose_first(self) -> list[Scheduled]:
        room = self._backend.n_batch
        for sequence in sorted(self.running, key=lambda sequence: sequence.order):
            if sequence.n_pending and not _waits(sequence):
                draft = self._draft(sequence, room - 1) if sequence.n_pending == 1 else ()
                return [Scheduled(sequence, min(sequence.n_pending, room), draft)]
        return []

    def _draft(self, sequence: Sequence, room: int) -> tuple[int, ...]:
        """The part of a sequence's draft that there is room for: in the pass, in the KV cache, and
        among its tokens."""
        n_left = len(sequence.tokens) - sequence.n_tokens
        n_cells = self._backend.n_ctx_seq - sequence.n_tokens
        # A pass gives one token more than its draft.
        return sequence.draft[: min(room, n_left - 1, n_cells)]


def _waits(sequence: Sequence) -> bool:
    """Whether the sequence that computes this one's prefix is still at it."""
    if sequence.waits_for is not None:
        return True
    source = sequence.prompt_of
    started = sequence.n_kv or sequence.n_new
    return source is not None and not started and source.is_computing_prompt


def _batch(scheduled: list[Scheduled]) -> Batch:
    """Return the batch of these tokens, and set how many outputs each sequence has in it."""
    n_tokens = sum(each.n_tokens + len(each.draft) for each in scheduled)
    token_ids = np.empty(n_tokens, np.int32)
    positions = np.empty(n_tokens, np.int32)
    seq_ids = np.empty(n_tokens, np.int32)
    output_rows: list[int] = []
    start = 0
    for each in scheduled:
        sequence, first = each.sequence, each.sequence.n_kv
        drafted = start + each.n_tokens
        end = drafted + len(each.draft)
        token_ids[start:drafted] = sequence.tokens[first : first + each.n_tokens]
        token_ids[drafted:end] = each.draft
        positions[start:end] = np.arange(first, first + end - start)
        seq_ids[start:end] = sequence.held_seq_id
        first_output = start + max(sequence.output_from - first, 0)
        output_rows += range(first_output, end)
        each.n_outputs = max(end - first_output, 0)
        start = end
    return Batch(token_ids, positions, seq_ids, np.array(output_rows, np.int32))
