"""Owns model, context and batch of llama.cpp; turns return codes into errors.

Each check here stands before a call that would otherwise abort the process or read memory that is
not ours.
"""

from __future__ import annotations

import ctypes
import functools
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from localgen.config import UNQUANTIZED, ModelConfig
from localgen.engine.backend import Batch, Logits, PassStopped, TokenIds
from localgen.errors import (
    CLOSED,
    BackendError,
    ClosedError,
    ContextFullError,
    DecodeError,
    InvalidGGUFError,
    ModelFileError,
)
from localgen.llama import devices, fitting, gate, state
from localgen.llama.callbacks import keeping_errors
from localgen.llama.fingerprint import fingerprint
from localgen.llama.library import llama, llama_version, log_router, logger
from localgen.llama.loading import Handles, Progress, load_model
from localgen.llama.memory import CELLS, flash_attention_mode
from localgen.llama.metadata import Hyperparameters, sampling_defaults
from localgen.llama.vocab import LlamaVocab

_GGML_TYPES = {
    "f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20,
    "bf16": 30,
}  # fmt: skip
_QUANT_BLOCK = 32
FLASH_ATTENTION_TYPES = {"auto": -1, "off": 0, "on": 1}
_MIN_CONTEXT = 512
# The share of the memory still free that the KV cache may take, if its budget is not given.
KV_SHARE = 0.5
# A pass of this many tokens or more can be stopped inside. Asking Python between graph nodes (some
# 500 for SmolLM2) takes the GIL each time and costs up to a millisecond: nothing for a long
# prefill, but too much for a decode step, which is short anyway.
_INTERRUPTIBLE_TOKENS = 64
_NO_CONTEXT = "there is no context yet: call reserve() first"


class LlamaBackend:
    """One loaded model and the context that its forward passes run in; implements ``Backend``.

    Not thread-safe: one thread at a time may use it, tokenizing excepted.
    """

    def __init__(self, path: Path, config: ModelConfig, progress: Progress | None = None) -> None:
        self.config = config
        self.epoch = 0
        self.n_threads = config.n_threads or devices.usable_cpus()
        self._llama = llama()
        self._pid = os.getpid()
        self._file = gate.check_model(path)
        self.path = self._file.path  # of the first shard, whichever was named
        self._sizes = Hyperparameters(self._file.metadata)
        self.n_gpu_layers = devices.n_gpu_layers(config.device, config.n_gpu_layers)
        if config.check_memory:
            fitting.check(self._file, config, self.n_gpu_layers)
        self._model = load_model(self.path, self.n_gpu_layers, progress)
        # Frees context, then model, when closed, collected or at exit, whichever comes first.
        self._handles = Handles(self._llama, self._model)
        self._finalizer = weakref.finalize(self, self._handles.free)
        self._context: Any = None
        self._memory: Any = None
        self._n_slots = 0
        self._n_ctx_seq = 0
        self._shares_cells = False
        self._kv_budget = config.kv_budget
        self._max_batch = 0
        # What each sequence holds, as of the batch before the last one: see ``_note_lengths``.
        self._kv_lengths = np.zeros(0, np.int32)
        self._last_batch: Batch | None = None
        self._first_positions = np.zeros(0, np.int32)
        self._n_passes = 0
        self._copies_pending = False
        self._n_outputs = 0
        self._logits_address = 0
        self._logits_view = np.empty((0, 0), np.float32)
        try:
            self._read_model()
        except BaseException:
            self.close()
            raise

    # --- loading and closing ---

    def _read_model(self) -> None:
        lib, model = self._llama, self._model
        if lib.llama_model_has_encoder(model) or not lib.llama_model_has_decoder(model):
            raise InvalidGGUFError(
                f"{self.path} is not a decoder-only language model, so it cannot generate()"
            )
        vocab = lib.llama_model_get_vocab(model)
        self._n_vocab = int(lib.llama_vocab_n_tokens(vocab))
        if not self._n_vocab:
            raise InvalidGGUFError(f"{self.path} holds no vocabulary")
        self.vocab = LlamaVocab(vocab, self._file.metadata, self._check_open)
        self.n_ctx_train = int(lib.llama_model_n_ctx_train(model))
        if self.config.n_ctx > self.n_ctx_train:
            logger.info(
                "n_ctx is %d, the model was trained on %d tokens",
                self.config.n_ctx,
                self.n_ctx_train,
            )
        self._has_kv = not lib.llama_model_is_recurrent(model)  # or only recurrent states
        self._is_recurrent = not self._has_kv or bool(lib.llama_model_is_hybrid(model))
        self.not_saved_because = self._obstacle_to_saving()
        self._check_kv_type()
        self.flash_attention = flash_attention_mode(
            self._sizes.n_head, self.config, uses_gpu=self.uses_gpu
        )
        self._make_batch()

    def _check_kv_type(self) -> None:
        head_size = self._sizes.head_size("key_length")
        value_size = self._sizes.head_size("value_length")
        quantized = self.config.kv_type not in UNQUANTIZED
        if quantized and (head_size % _QUANT_BLOCK or value_size % _QUANT_BLOCK):
            raise BackendError(
                f"kv_type={self.config.kv_type!r} stores blocks of {_QUANT_BLOCK} values, but this "
                f"model's attention heads are {head_size} wide; use 'f16', 'bf16' or 'f32'"
            )

    @property
    def sampling_defaults(self) -> dict[str, float]:
        """See ``metadata.sampling_defaults``."""
        return sampling_defaults(self._file.metadata)

    def close(self) -> None:
        """Free context and model; calling it again does nothing."""
        self._context = self._memory = None
        if self.is_forked:
            self._finalizer.detach()
        else:
            self._finalizer()

    @property
    def is_forked(self) -> bool:
        """Whether this process is a fork of the one that loaded the model."""
        return os.getpid() != self._pid

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise ClosedError(CLOSED)

    def check_usable(self) -> None:
        """Raise unless this process may run the model now."""
        if self.is_forked:
            raise BackendError(
                "this model was loaded before a fork: llama.cpp's threads do not exist in the "
                "child; load the model in the child, or start processes with 'spawn'"
            )
        self._check_open()
        # A file that shrinks while it is mapped kills the process at the next read.
        if self._file.has_changed():
            raise BackendError(f"{self.path} was changed after it was loaded; load the model again")

    # --- context ---

    @property
    def n_vocab(self) -> int:
        return self._n_vocab

    @property
    def n_batch(self) -> int:
        return self.config.n_batch

    @property
    def uses_gpu(self) -> bool:
        return self.n_gpu_layers != 0

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of KV cache that one token takes; for windowed or recurrent models, at most."""
        return self._sizes.kv_bytes_per_token(self.config.kv_type)

    @property
    def n_slots(self) -> int:
        return self._n_slots

    @property
    def n_ctx_seq(self) -> int:
        return self._n_ctx_seq

    @property
    def can_truncate(self) -> bool:
        return not self._is_recurrent

    @property
    def kv_budget(self) -> int | None:
        """Bytes that all slots together may take; None if only the GPU's memory limits them."""
        if self._kv_budget is None and not self.uses_gpu:
            memory = devices.usable_memory()
            if memory is not None:
                # One sequence may become as long as was promised, where that was checked.
                least = self.kv_bytes_per_token * self._slot_size(self.config.n_ctx)
                least = least if self.config.check_memory else 0
                self._kv_budget = max(int(memory * KV_SHARE), least)
        return self._kv_budget

    def n_slots_that_fit(self, n_tokens: int) -> int:
        """See ``Backend``."""
        per_slot = self.kv_bytes_per_token * self._slot_size(n_tokens)
        if self.kv_budget is None or not per_slot:
            return self.config.max_sequences
        return self.kv_budget // per_slot

    def _slot_size(self, n_tokens: int) -> int:
        """The tokens of a slot that is made for ``n_tokens``: powers of two, so that a chat that
        grows remakes its context only a few times."""
        rounded = max(_MIN_CONTEXT, 1 << (n_tokens - 1).bit_length())
        return min(rounded, -(-self.config.n_ctx // CELLS) * CELLS)

    @property
    def can_share_cells(self) -> bool:
        return not self._is_recurrent and self.can_save

    def cells_fit(self, n_cells: int) -> bool:
        """See ``Backend``."""
        return self.kv_budget is None or n_cells * self.kv_bytes_per_token <= self.kv_budget

    def reserve(
        self, n_slots: int, n_tokens: int, keep: Sequence[int] = (), *, n_cells: int | None = None
    ) -> None:
        """See ``Backend``."""
        if n_tokens > self._slot_size(self.config.n_ctx):
            raise ContextFullError(n_tokens, self.config.n_ctx)
        n_fit = self.n_slots_that_fit(n_tokens)
        if n_cells is None and n_slots > n_fit:
            per_slot = self.kv_bytes_per_token * self._slot_size(n_tokens)
            raise BackendError(
                f"{n_slots} sequences of {n_tokens} tokens take {n_slots * per_slot / 2**20:.0f} "
                f"MiB of KV cache, and kv_budget is {(self.kv_budget or 0) / 2**20:.0f} MiB; use "
                f"fewer tokens, a larger kv_budget, or kv_type='q8_0'"
            )
        self._check_slots(*keep)
        self.settle()
        kept = []
        if self.can_save:
            kept = [(self.kv_state(slot), int(self._kv_lengths[slot])) for slot in keep]
        self._free_context()
        self._shares_cells = n_cells is not None
        self._make_context(n_slots, self._slot_size(n_tokens) if n_cells is None else n_cells)
        restored = [self.set_kv_state(slot, *saved) for slot, saved in enumerate(kept)]
        if sum(restored) < len(keep):
            self._lose_all()

    def _free_context(self) -> None:
        self._handles.free_context()
        self._context = self._memory = None
        self._logits_address = 0
        self._n_slots = self._n_ctx_seq = 0
        self._kv_lengths = np.zeros(0, np.int32)

    def release(self) -> None:
        """Free the context with all that it holds: the next ``reserve`` is like the first one."""
        self._lose_all()
        self._copies_pending = False
        self._free_context()

    def _make_context(self, n_slots: int, n_ctx_seq: int) -> None:
        """``n_ctx_seq``: tokens of each slot, or of all that share their cells."""
        self._context = self._new_context(n_slots, n_ctx_seq)
        self._handles.context = self._context
        self._memory = self._llama.llama_get_memory(self._context)
        self._n_slots = n_slots
        self._n_ctx_seq = int(self._llama.llama_n_ctx_seq(self._context))
        self._max_batch = min(self.config.n_batch, int(self._llama.llama_n_batch(self._context)))
        self._kv_lengths = np.zeros(n_slots, np.int32)

    def _new_context(self, n_slots: int, n_ctx_seq: int) -> Any:
        params = self._llama.llama_context_default_params()
        params.n_ctx = n_ctx_seq * (1 if self._shares_cells else n_slots)
        params.n_batch = params.n_ubatch = self.config.n_batch
        params.n_seq_max = n_slots
        params.n_threads = params.n_threads_batch = self.n_threads
        params.type_k = params.type_v = _GGML_TYPES[self.config.kv_type]
        params.flash_attn_type = FLASH_ATTENTION_TYPES[self.flash_attention]
        # With one KV stream a slot, rows do not look at each other's cells.
        params.kv_unified = self._shares_cells
        params.offload_kqv = params.op_offload = self.uses_gpu
        log_router.take_complaints()
        context = self._llama.llama_init_from_model(self._model, params)
        if not context:
            raise BackendError(
                f"llama.cpp cannot make a context of {n_slots} x {n_ctx_seq} tokens with "
                f"kv_type={self.config.kv_type!r}: "
                f"{log_router.take_complaints() or 'no reason was given'}; use a smaller n_ctx"
            )
        return context

    # --- forward passes ---

    def _make_batch(self) -> None:
        """A llama_batch whose tokens, positions and outputs ``_point_to`` gives it."""
        n = self.config.n_batch
        self._n_seq_ids = np.ones(n, np.int32)
        self._seq_ids = np.zeros(n, np.int32)
        # Each token's seq_id pointer points to its own place in one contiguous array.
        first = self._seq_ids.ctypes.data
        self._seq_pointers = np.arange(first, first + 4 * n, 4, dtype=np.uintp)
        self._int32_p = ctypes.POINTER(ctypes.c_int32)
        self._int8_p = ctypes.POINTER(ctypes.c_int8)
        self._batch = self._llama.llama_batch(
            n_tokens=0,
            embd=None,
            n_seq_id=self._n_seq_ids.ctypes.data_as(self._int32_p),
            seq_id=ctypes.cast(
                self._seq_pointers.ctypes.data, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))
            ),
        )

    def decode(self, batch: Batch, should_stop: Callable[[], bool] | None = None) -> Logits:
        """See ``Backend``. Raises DecodeError, and what ``should_stop`` raises."""
        # The same batch again has the same rows, with other tokens one position further, in arrays
        # that C reads already. What was checked is not checked again: each NumPy call costs some
        # microseconds after a forward pass, which leaves the caches cold, and C itself refuses a
        # token or a position that is out of range.
        if batch is not self._last_batch:
            self._fill(batch)
        n_tokens = self._batch.n_tokens
        if should_stop is None or n_tokens < _INTERRUPTIBLE_TOKENS:
            code, stopped = self._llama.llama_decode(self._context, self._batch), None
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
            raise DecodeError(_describe(code, n_tokens, log_router.take_complaints()))
        return self._logits(self._n_outputs)

    def _decode_interruptibly(
        self, should_stop: Callable[[], bool]
    ) -> tuple[int, BaseException | None]:
        """llama_decode that asks between graph nodes whether to go on; code, and why it stopped."""
        stop = False

        def abort(_user_data: object) -> bool:
            nonlocal stop
            # Signal handlers run when this is called; what they raise is in ``errors``.
            stop = stop or bool(errors) or should_stop()
            return stop

        callback = self._llama.ggml_abort_callback(abort)
        with keeping_errors() as errors:
            self._llama.llama_set_abort_callback(self._context, callback, None)
            try:
                code = self._llama.llama_decode(self._context, self._batch)
            finally:
                nothing = self._llama.ggml_abort_callback()
                self._llama.llama_set_abort_callback(self._context, nothing, None)
        if errors:
            return code, errors[0]
        return code, PassStopped() if stop and code != 0 else None

    def _fill(self, batch: Batch) -> None:
        """Copy ``batch`` into the llama_batch, after the checks that C does not survive."""
        if self._context is None:
            raise DecodeError(_NO_CONTEXT)
        self._note_lengths()
        n = len(batch.token_ids)
        if not 0 < n <= self._max_batch:
            raise DecodeError(f"a batch of {n} tokens; it must be 1 to {self._max_batch}")
        if _largest(batch.token_ids) >= self._n_vocab:
            raise DecodeError(f"a token id outside 0 to {self._n_vocab - 1} is in the batch")
        if _largest(batch.seq_ids) >= self._n_slots:
            raise DecodeError(f"a seq_id outside 0 to {self._n_slots - 1} is in the batch")
        if _largest(batch.positions) >= self._n_ctx_seq:
            raise DecodeError(f"a position outside 0 to {self._n_ctx_seq - 1} is in the batch")
        if (batch.positions != self._next_positions(batch.seq_ids)).any():
            raise DecodeError("positions must follow what the KV cache holds of their sequence")
        self._point_to(batch)
        self._n_outputs = int(np.count_nonzero(batch.wants_logits))
        self._last_batch = batch
        self._first_positions, self._n_passes = batch.positions.copy(), 0

    def _point_to(self, batch: Batch) -> None:
        """Let the llama_batch be a batch's own arrays, which live as long as it is the last one."""
        n = len(batch.token_ids)
        self._seq_ids[:n] = batch.seq_ids
        self._batch.n_tokens = n
        self._batch.token = batch.token_ids.ctypes.data_as(self._int32_p)
        self._batch.pos = batch.positions.ctypes.data_as(self._int32_p)
        self._batch.logits = batch.wants_logits.ctypes.data_as(self._int8_p)

    def _note_lengths(self) -> None:
        """Bring ``_kv_lengths`` up to the last batch."""
        if self._last_batch is not None:
            # Of a sequence's tokens the last one counts; its own positions may be ahead already.
            lengths = self._first_positions + self._n_passes
            self._kv_lengths[self._last_batch.seq_ids] = lengths
            self._last_batch = None

    def _next_positions(self, seq_ids: TokenIds) -> TokenIds:
        """The positions that continue what the KV cache holds of each token's sequence."""
        positions: TokenIds = self._kv_lengths[seq_ids]
        if (seq_ids[1:] == seq_ids[:-1]).any():
            starts = np.flatnonzero(np.diff(seq_ids, prepend=-1))
            run_lengths = np.diff(starts, append=len(seq_ids))
            positions += np.arange(len(seq_ids), dtype=np.int32)
            positions -= np.repeat(starts, run_lengths).astype(np.int32)
        return positions

    def _logits(self, n_rows: int) -> Logits:
        """The output rows as a view of llama.cpp's own buffer, (n_rows, n_vocab)."""
        if not n_rows:
            # Waits for a graph that runs asynchronously (on a GPU), so that times are true.
            self._llama.llama_synchronize(self._context)
            return np.empty((0, self._n_vocab), np.float32)
        pointer = self._llama.llama_get_logits(self._context)
        if not pointer:
            raise DecodeError("llama.cpp gave no logits for the tokens that asked for them")
        address = ctypes.addressof(pointer.contents)
        if address != self._logits_address or n_rows != len(self._logits_view):
            buffer: Any = (ctypes.c_float * (n_rows * self._n_vocab)).from_address(address)
            rows = np.frombuffer(buffer, np.float32).reshape(n_rows, self._n_vocab)
            self._logits_address, self._logits_view = address, rows
        return self._logits_view

    def _roll_back(self, batch: Batch, code: int) -> None:
        """Remove what a failed pass may have left: its first micro-batches stay in the cache."""
        self._last_batch = None
        # Where a sequence's first token was to go is what it held before; assigned last, it stays.
        lengths = self._first_positions + self._n_passes
        self._kv_lengths[batch.seq_ids[::-1]] = lengths[::-1]
        if code in (1, -1):
            return
        if self._is_recurrent:
            # A state cannot be taken back, and llama.cpp may have renamed the states of other
            # sequences without moving them.
            self._lose_all()
            return
        for slot in np.unique(batch.seq_ids):
            n_kept = int(self._kv_lengths[slot])
            self._llama.llama_memory_seq_rm(self._memory, int(slot), n_kept, -1)

    def forget(self) -> None:
        """See ``Backend``."""
        self._last_batch = None
        if self._context is not None:
            self._llama.llama_memory_clear(self._memory, False)
            self._kv_lengths[:] = 0

    def _lose_all(self) -> None:
        self.forget()
        self.epoch += 1

    @contextmanager
    def lent_context(self) -> Iterator[Any]:
        """The llama_context, emptied, for passes that are not noted here (see ``bare``); what they
        leave is lost."""
        if self._context is None:
            raise DecodeError(_NO_CONTEXT)
        self._lose_all()
        try:
            yield self._context
        finally:
            self._lose_all()

    # --- slots ---

    def kv_truncate(self, slot: int, n_tokens: int) -> bool:
        """See ``Backend``."""
        self._check_slots(slot)
        self._note_lengths()
        if n_tokens >= self._kv_lengths[slot]:
            return True
        if n_tokens and self._is_recurrent:
            return False
        self._llama.llama_memory_seq_rm(self._memory, slot, n_tokens or -1, -1)
        self._kv_lengths[slot] = n_tokens
        return True

    def kv_copy(self, source: int, target: int) -> None:
        """See ``Backend``."""
        self._check_slots(source, target)
        if source == target:
            return
        self._note_lengths()
        self._llama.llama_memory_seq_rm(self._memory, target, -1, -1)
        self._llama.llama_memory_seq_cp(self._memory, source, target, -1, -1)
        self._kv_lengths[target] = self._kv_lengths[source]
        # Slots share cells, and a recurrent state until one of them goes on, without any data that
        # waits to be copied.
        self._copies_pending = self._has_kv and not self._shares_cells

    def settle(self) -> None:
        """Have the data of copied slots copied now: llama.cpp does it before the next pass only, so
        one is run over a token that is then removed, or does not even fit."""
        self._note_lengths()
        if not self._copies_pending:
            return
        self._copies_pending = False
        if self._is_recurrent:
            self._lose_all()  # its states would go one token on
            return
        slot = int(self._kv_lengths.argmin())
        n_kv = int(self._kv_lengths[slot])
        token, position, seq_id = (np.array([number], np.int32) for number in (0, n_kv, slot))
        self._point_to(Batch(token, position, seq_id, np.zeros(1, np.int8)))
        code = self._llama.llama_decode(self._context, self._batch)
        self._llama.llama_memory_seq_rm(self._memory, slot, n_kv or -1, -1)
        if code not in (0, 1):
            self._lose_all()

    @property
    def can_save(self) -> bool:
        """Whether ``kv_state`` can be had: of a sliding window llama.cpp saves the end only."""
        return not int(self._llama.llama_model_n_swa(self._model))

    def _obstacle_to_saving(self) -> str | None:
        """Why a slot's state cannot be kept in a file; None if it can."""
        if not self.can_save:
            return (
                "the model attends to a sliding window, and llama.cpp saves only the end of what "
                "such a model computed"
            )
        if self._is_recurrent and self._has_kv:
            return (
                "the model has both recurrent states and a KV cache, and what llama.cpp saves of "
                "it fits only a context with the same number of sequences"
            )
        return None

    @functools.cached_property
    def state_identity(self) -> dict[str, str]:
        """What must be the same, by name, for the bytes of ``kv_state`` to mean the same.

        Raises ModelFileError if the model's file cannot be read any more.
        """
        try:
            model = fingerprint(*self._file.paths)
        except OSError as error:
            raise ModelFileError(f"{self.path} cannot be read any more: {error}") from error
        return {
            "model's fingerprint": model,
            "llama.cpp": llama_version(),
            "kv_type": self.config.kv_type,
            "flash_attention": self.flash_attention,
        }

    def kv_state(self, slot: int) -> state.State:
        """All that a slot holds, as llama.cpp's own bytes: for this model and settings only.

        The same for any number of slots; see ``state``.
        """
        self._check_slots(slot)
        self.settle()
        size = int(self._llama.llama_state_seq_get_size(self._context, slot))
        written = np.empty(size, np.uint8)
        pointer = written.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        n_written = int(self._llama.llama_state_seq_get_data(self._context, pointer, size, slot))
        if n_written != size:
            raise BackendError(f"llama.cpp gave {n_written} of the {size} bytes of slot {slot}")
        if self._is_recurrent or self._shares_cells:
            return written
        return state.to_one_stream(written, slot)

    def set_kv_state(self, slot: int, saved: state.State, n_tokens: int) -> bool:
        """Fill a slot with the ``n_tokens`` tokens of a ``kv_state``; False, with the slot empty,
        if it does not fit.

        The bytes are trusted: C checks little of them.
        """
        self._check_slots(slot)
        self.settle()
        self.kv_truncate(slot, 0)
        if not self._is_recurrent:
            saved = state.to_streams(saved, 1 if self._shares_cells else self._n_slots)
        pointer = saved.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        size = len(saved)
        n_read = int(self._llama.llama_state_seq_set_data(self._context, pointer, size, slot))
        last = int(self._llama.llama_memory_seq_pos_max(self._memory, slot))
        if n_read != size or last + 1 != n_tokens:
            self._llama.llama_memory_seq_rm(self._memory, slot, -1, -1)
            log_router.take_complaints()  # else a later error would be explained by them
            return False
        self._kv_lengths[slot] = n_tokens
        return True

    def _check_slots(self, *slots: int) -> None:
        for slot in slots:
            if not 0 <= slot < self._n_slots:
                raise DecodeError(f"slot {slot} is outside 0 to {self._n_slots - 1}")


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
