"""One llama_context: its forward passes, and what its sequences hold; return codes become errors.

Each check here precedes a call that would otherwise abort the process, or read or write memory out
of bounds.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from localgen.engine.backend import Batch, Logits, PassStopped, TokenIds
from localgen.errors import BackendError, DecodeError, StateError
from localgen.llama.callbacks import collected_errors
from localgen.llama.library import log_router
from localgen.llama.state import State, to_layout, to_one_stream, to_streams

# A pass of this many tokens or more can be stopped inside. Calling Python between graph nodes (some
# 600 for SmolLM2) takes the GIL each time and costs up to a millisecond: nothing for a long
# prefill, but too much for a decode step, which is short anyway.
_INTERRUPTIBLE_TOKENS = 64
_GAP = "positions must continue what the KV cache holds of their sequence"
# Whether to stop is asked this often at most, for the answer takes longer than the call.
_SECONDS_BETWEEN_LOOKS = 0.0005


@dataclass(frozen=True, slots=True)
class MemoryKind:
    """What a model remembers a sequence by.

    has_kv: keys and values of its tokens. is_recurrent: states, which know no earlier one; a hybrid
    model has both.
    """

    has_kv: bool
    is_recurrent: bool


class Context:
    """A llama_context with ``n_slots`` sequences; it does not free it.

    handle: the llama_context. n_batch: the most tokens of one pass. is_unified: whether all
    sequences share the cells of one KV stream. flash_attention: "on", "off" or "auto"; unless it is
    "auto", ``set_state`` accepts states of both layouts of values. lengths: int32 (n_slots,),
    tokens that each sequence holds, as of the batch before the last one. n_cache_resets: how often
    all of it was lost.
    """

    def __init__(
        self,
        bindings: Any,
        handle: Any,
        *,
        n_slots: int,
        n_batch: int,
        n_vocab: int,
        kind: MemoryKind,
        is_unified: bool,
        flash_attention: str = "auto",
        is_quantized: bool = False,
    ) -> None:
        self.flash_attention = flash_attention
        self._is_quantized = is_quantized  # the KV cache, whose values are never transposed
        self._llama = bindings
        self.handle = handle
        self.memory = bindings.llama_get_memory(handle)
        self.n_slots = n_slots
        self.n_ctx_seq = int(bindings.llama_n_ctx_seq(handle))
        self._max_batch = min(n_batch, int(bindings.llama_n_batch(handle)))
        self._n_vocab = n_vocab
        self._n_threads: int | None = None  # as they were made with
        self._kind = kind
        self._is_unified = is_unified
        self.n_cache_resets = 0
        self.lengths = np.zeros(n_slots, np.int32)
        self._last_batch: Batch | None = None
        # Of the last batch: its first positions, how many tokens each token's sequence has in it,
        # and how often it was decoded.
        self._first_positions = np.zeros(0, np.int32)
        self._run_lengths = np.zeros(0, np.int32)
        self._n_passes = 0
        self._copies_pending = False
        # Gives the bare address: a pointer object would have to be looked into, for each token.
        self._get_logits = bindings._lib["llama_get_logits"]
        self._get_logits.argtypes, self._get_logits.restype = [ctypes.c_void_p], ctypes.c_void_p
        self._logits_address: int | None = 0
        self._logits_view = np.empty((0, 0), np.float32)
        self._make_batch(n_batch)

    def _make_batch(self, n_batch: int) -> None:
        """Make a llama_batch whose tokens and positions ``_point_to`` sets."""
        self._n_seq_ids = np.ones(n_batch, np.int32)
        self._seq_ids = np.zeros(n_batch, np.int32)
        self._wants_logits = np.zeros(n_batch, np.int8)
        # Each token's seq_id pointer points to its own place in one contiguous array.
        first = self._seq_ids.ctypes.data
        self._seq_pointers = np.arange(first, first + 4 * n_batch, 4, dtype=np.uintp)
        self._int32_p = ctypes.POINTER(ctypes.c_int32)
        self._batch = self._llama.llama_batch(
            n_tokens=0,
            embd=None,
            n_seq_id=self._n_seq_ids.ctypes.data_as(self._int32_p),
            seq_id=ctypes.cast(
                self._seq_pointers.ctypes.data, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))
            ),
            logits=self._wants_logits.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    # --- forward passes ---

    def use_threads(self, n_threads: int) -> None:
        """Run the next passes on so many threads, whatever their number of tokens."""
        if n_threads != self._n_threads:
            self._llama.llama_set_n_threads(self.handle, n_threads, n_threads)
            self._n_threads = n_threads

    def decode(self, batch: Batch, should_stop: Callable[[], bool] | None = None) -> Logits:
        """See ``Backend``. Raises DecodeError, and what ``should_stop`` raises."""
        # The same batch again has other tokens at other positions, in arrays that C reads already.
        # They are not checked here again, since each NumPy call costs some microseconds after a
        # forward pass, which leaves the caches cold: C itself refuses a token id that is out of
        # range, and a position that does not continue a sequence that is not empty.
        if batch is not self._last_batch:
            self._fill(batch)
        n_tokens = self._batch.n_tokens
        if should_stop is None or n_tokens < _INTERRUPTIBLE_TOKENS:
            code, stopped = self._llama.llama_decode(self.handle, self._batch), None
        else:
            code, stopped = self._decode_interruptibly(should_stop)
        self._copies_pending = False
        if code == 0:
            self._n_passes += 1
        else:
            self._roll_back(batch, code)
        if stopped is not None:
            raise stopped
        if code != 0:
            raise DecodeError(_describe(code, n_tokens, log_router.take_errors()))
        return self._logits(len(batch.output_rows))

    def _decode_interruptibly(
        self, should_stop: Callable[[], bool]
    ) -> tuple[int, BaseException | None]:
        """llama_decode that asks between graph nodes whether to go on; code, and why it stopped."""
        stop, next_look = False, 0.0

        def abort(_user_data: object) -> bool:
            nonlocal stop, next_look
            now = time.perf_counter()
            if now >= next_look:
                next_look = now + _SECONDS_BETWEEN_LOOKS
                # Signal handlers run when this is called; what they raise is in ``errors``.
                stop = stop or bool(errors) or should_stop()
            return stop

        callback = self._llama.ggml_abort_callback(abort)
        with collected_errors() as errors:
            self._llama.llama_set_abort_callback(self.handle, callback, None)
            try:
                code = self._llama.llama_decode(self.handle, self._batch)
            finally:
                nothing = self._llama.ggml_abort_callback()
                self._llama.llama_set_abort_callback(self.handle, nothing, None)
        if errors:
            return code, errors[0]
        return code, PassStopped() if stop and code != 0 else None

    def _fill(self, batch: Batch) -> None:
        """Copy ``batch`` into the llama_batch, after the checks that C does not survive without."""
        self._note_lengths()
        n = len(batch.token_ids)
        if not 0 < n <= self._max_batch:
            raise DecodeError(f"a batch of {n} tokens; it must be 1 to {self._max_batch}")
        if _largest(batch.token_ids) >= self._n_vocab:
            raise DecodeError(f"a token id outside 0 to {self._n_vocab - 1} is in the batch")
        if _largest(batch.seq_ids) >= self.n_slots:
            raise DecodeError(f"a seq_id outside 0 to {self.n_slots - 1} is in the batch")
        if _largest(batch.positions) >= self.n_ctx_seq:
            raise DecodeError(f"a position outside 0 to {self.n_ctx_seq - 1} is in the batch")
        outputs = batch.output_rows
        if len(outputs) and (_largest(outputs) >= n or (np.diff(outputs) <= 0).any()):
            raise DecodeError(f"output rows must be rising, within 0 to {n - 1}")
        run_lengths, positions = self._runs(batch.seq_ids)
        if (batch.positions != positions).any():
            raise DecodeError(_GAP)
        self._point_to(batch)
        self._last_batch = batch
        self._first_positions, self._run_lengths, self._n_passes = positions, run_lengths, 0

    def _point_to(self, batch: Batch) -> None:
        """Let the llama_batch be a batch's own arrays, which live as long as it is the last one."""
        n = len(batch.token_ids)
        self._seq_ids[:n] = batch.seq_ids
        self._batch.n_tokens = n
        self._batch.token = batch.token_ids.ctypes.data_as(self._int32_p)
        self._batch.pos = batch.positions.ctypes.data_as(self._int32_p)
        self._wants_logits[:n] = 0
        self._wants_logits[batch.output_rows] = 1

    def _note_lengths(self) -> None:
        """Bring ``lengths`` up to the last batch."""
        if self._last_batch is not None:
            # Where a sequence's first token would go next is its length; assigned last, it stays.
            next_positions = self._first_positions + self._n_passes * self._run_lengths
            self.lengths[self._last_batch.seq_ids[::-1]] = next_positions[::-1]
            self._last_batch = None

    def _runs(self, seq_ids: TokenIds) -> tuple[TokenIds, TokenIds]:
        """For each token: how many tokens its sequence has in the batch, and the position that
        continues what the KV cache holds of it."""
        starts = np.flatnonzero(np.diff(seq_ids, prepend=-1))
        run_lengths = np.diff(starts, append=len(seq_ids))
        offsets = np.arange(len(seq_ids)) - np.repeat(starts, run_lengths)
        positions: TokenIds = self.lengths[seq_ids] + offsets.astype(np.int32)
        return np.repeat(run_lengths, run_lengths).astype(np.int32), positions

    def _logits(self, n_rows: int) -> Logits:
        """The output rows as a view of llama.cpp's own buffer, (n_rows, n_vocab)."""
        if not n_rows:
            # Waits for a graph that runs asynchronously (on a GPU), so that times are true.
            self._llama.llama_synchronize(self.handle)
            return np.empty((0, self._n_vocab), np.float32)
        address = self._get_logits(self.handle)
        if address != self._logits_address or n_rows != len(self._logits_view):
            if not address:
                raise DecodeError("llama.cpp gave no logits for the tokens that asked for them")
            buffer: Any = (ctypes.c_float * (n_rows * self._n_vocab)).from_address(address)
            rows = np.frombuffer(buffer, np.float32).reshape(n_rows, self._n_vocab)
            self._logits_address, self._logits_view = address, rows
        return self._logits_view

    def _roll_back(self, batch: Batch, code: int) -> None:
        """Remove what a failed pass may have left: its first micro-batches stay in the cache."""
        self._note_lengths()
        if code in (1, -1):
            return
        if self._kind.is_recurrent:
            # A state cannot be taken back, and llama.cpp may have renamed the states of other
            # sequences without moving them.
            self.lose_all()
            return
        for seq_id in np.unique(batch.seq_ids):
            n_kept = int(self.lengths[seq_id])
            self._llama.llama_memory_seq_rm(self.memory, int(seq_id), n_kept, -1)

    def forget(self) -> None:
        """Empty every sequence."""
        self._last_batch = None
        self._llama.llama_memory_clear(self.memory, False)
        self.lengths[:] = 0

    def lose_all(self) -> None:
        """Empty every sequence, and count it as a loss."""
        self.forget()
        self.n_cache_resets += 1

    # --- sequences ---

    def truncate(self, seq_id: int, n_tokens: int) -> bool:
        """See ``Backend``."""
        self.check_seq_ids(seq_id)
        self._note_lengths()
        if n_tokens >= self.lengths[seq_id]:
            return True
        if n_tokens and self._kind.is_recurrent:
            return False
        self._llama.llama_memory_seq_rm(self.memory, seq_id, n_tokens or -1, -1)
        self.lengths[seq_id] = n_tokens
        return True

    def copy(self, source: int, target: int) -> None:
        """See ``Backend``."""
        self.check_seq_ids(source, target)
        if source == target:
            return
        self._note_lengths()
        self._llama.llama_memory_seq_rm(self.memory, target, -1, -1)
        self._llama.llama_memory_seq_cp(self.memory, source, target, -1, -1)
        self.lengths[target] = self.lengths[source]
        # Unified sequences share cells, and recurrent ones a state until one of them continues: no
        # data waits to be copied.
        self._copies_pending = self._kind.has_kv and not self._is_unified

    def flush_copies(self) -> None:
        """Have the data of copied sequences copied now: llama.cpp does it only before the next
        pass, so one is run over a token that is then removed, or does not even fit."""
        self._note_lengths()
        if not self._copies_pending:
            return
        self._copies_pending = False
        if self._kind.is_recurrent:
            self.lose_all()  # its states would move on by a token
            return
        shortest = int(self.lengths.argmin())
        n_kv = int(self.lengths[shortest])
        token, position, seq_id = (np.array([n], np.int32) for n in (0, n_kv, shortest))
        self._point_to(Batch(token, position, seq_id, np.zeros(0, np.int32)))
        code = self._llama.llama_decode(self.handle, self._batch)
        self._llama.llama_memory_seq_rm(self.memory, shortest, n_kv or -1, -1)
        if code not in (0, 1):
            self.lose_all()

    def state(self, seq_id: int) -> State:
        """Return all that a sequence holds, as llama.cpp's own bytes: for this model and settings.

        The bytes are the same for any number of sequences; see ``llama/state.py``.
        """
        self.check_seq_ids(seq_id)
        self.flush_copies()
        size = int(self._llama.llama_state_seq_get_size(self.handle, seq_id))
        written = np.empty(size, np.uint8)
        pointer = written.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        n_written = int(self._llama.llama_state_seq_get_data(self.handle, pointer, size, seq_id))
        if n_written != size:
            raise BackendError(
                f"llama.cpp gave {n_written} of the {size} bytes of sequence {seq_id}"
            )
        if self._kind.is_recurrent or self._is_unified:
            return written
        return to_one_stream(written, seq_id)

    def set_state(self, seq_id: int, saved: State, n_tokens: int) -> bool:
        """Fill a sequence with the ``n_tokens`` tokens of a ``state``; False, with it empty,
        if it does not fit.

        The bytes are trusted: C checks little of them.
        """
        self.check_seq_ids(seq_id)
        self.flush_copies()
        self.truncate(seq_id, 0)
        may_differ = self.flash_attention != "auto" and not self._is_quantized
        if may_differ and self._kind.has_kv and not self._kind.is_recurrent:
            try:
                saved = to_layout(saved, transposed=self.flash_attention == "off")
            except StateError:
                return False
        if not self._kind.is_recurrent:
            saved = to_streams(saved, 1 if self._is_unified else self.n_slots)
        pointer = saved.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        size = len(saved)
        n_read = int(self._llama.llama_state_seq_set_data(self.handle, pointer, size, seq_id))
        last = int(self._llama.llama_memory_seq_pos_max(self.memory, seq_id))
        if n_read != size or last + 1 != n_tokens:
            self._llama.llama_memory_seq_rm(self.memory, seq_id, -1, -1)
            log_router.take_errors()  # else a later error would be explained by them
            return False
        self.lengths[seq_id] = n_tokens
        return True

    def check_seq_ids(self, *seq_ids: int) -> None:
        """Raise DecodeError for a seq_id out of range."""
        for seq_id in seq_ids:
            if not 0 <= seq_id < self.n_slots:
                raise DecodeError(f"seq_id {seq_id} is outside 0 to {self.n_slots - 1}")


def _largest(values: TokenIds) -> int:
    """The largest of int32 ``values``; a negative one counts as huge."""
    return int(values.view(np.uint32).max())


def _describe(code: int, n_tokens: int, complaints: str) -> str:
    meaning = {
        1: "no room in the KV cache",
        -1: "the batch was refused",
        2: "it was aborted",
        -2: "memory could not be allocated, or the graph not computed",
        -3: "the graph failed",
    }.get(code, "an unknown failure")
    details = f": {complaints}" if complaints else ""
    return f"llama_decode of {n_tokens} tokens returned {code} ({meaning}){details}"
