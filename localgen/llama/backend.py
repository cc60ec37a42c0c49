"""Owns a llama.cpp model and the context that its passes run in, and decides how that is made.

Implements ``Backend`` for one model. What happens inside a context is in ``context``.
"""

from __future__ import annotations

import copy
import functools
import os
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from localgen._util import system
from localgen._util.format import counted
from localgen._util.warn import warn
from localgen.config import UNQUANTIZED, ModelConfig
from localgen.engine.backend import Batch, Logits, State, Work
from localgen.engine.pass_costs import PassCosts
from localgen.errors import (
    CLOSED,
    BackendError,
    ClosedError,
    ContextFullError,
    DecodeError,
    InvalidGGUFError,
    ModelFileError,
)
from localgen.generation.model_facts import Weight
from localgen.gguf import gate
from localgen.gguf.fingerprint import fingerprint
from localgen.gguf.memory import (
    CELLS,
    flash_attention_mode,
    state_bytes_of_layers,
    tokens_at_once,
)
from localgen.gguf.metadata import Hyperparameters, sampling_defaults, sizes_by_name
from localgen.llama import attention_probe, devices, fitting, forks
from localgen.llama.adaptive_threads import AdaptiveThreads
from localgen.llama.attention import SETTINGS, AttentionTimes
from localgen.llama.attention_choice import AttentionChoice
from localgen.llama.attention_probe import Measured
from localgen.llama.attention_store import keep_times, kept_times
from localgen.llama.context import Context, MemoryKind
from localgen.llama.context_init import ContextInit, ContextSize
from localgen.llama.library import llama, llama_version, log_router, logger
from localgen.llama.loading import Handles, Progress, load_model
from localgen.llama.pass_store import keep_costs, kept_costs
from localgen.llama.state import to_layout
from localgen.llama.vocab import LlamaVocab
from localgen.llama.vocab_trial import check_unknown_vocabulary

Result = TypeVar("Result")

_GGML_TYPES = {
    "f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20,
    "bf16": 30,
}  # fmt: skip
_QUANT_BLOCK = 32
FLASH_ATTENTION_TYPES = {"auto": -1, "off": 0, "on": 1}
_MIN_CONTEXT = 512
# One row for each position that a model without rotation has learned.
_POSITIONS = "position_embd.weight"
_LONG_ROPE_FACTORS = "rope_factors_long.weight"
# The share of the memory still free that the KV cache may take, if its budget is not given.
KV_SHARE = 0.5
# Passes of a model with fewer bytes of weights are too short for its attention to matter.
LEAST_WEIGHTS = 16 * 2**20
# The most that the KV cache of each context in which attention is measured may take.
MOST_PROBE_BYTES = 128 * 2**20
# What making a context takes, until one was made.
INIT_SECONDS = 0.05
# Sequences move to a context with another layout about as fast as this, conversion included.
MOVED_BYTES_PER_SECOND = 1e9


class LlamaBackend:
    """One loaded model and the context that its forward passes run in; implements ``Backend``.

    config: as given, with ``n_ctx`` lowered to the positions that the model has learned, if any.
    adapts: whether flash_attention="auto" and n_threads=None may follow the work and the machine;
    False for what is compared. eval_callback: llama.cpp calls it with each tensor that it computes;
    see ``input_sums``.
    Not thread-safe, except for its vocabulary: one thread at a time may use it.
    """

    def __init__(
        self,
        path: Path,
        config: ModelConfig,
        progress: Progress | None = None,
        *,
        adapts: bool = True,
        eval_callback: Any = None,
    ) -> None:
        self._may_adapt = adapts
        self._eval_callback = eval_callback
        self._n_resets_before = 0  # of the contexts before this one
        self.n_threads = config.n_threads or system.usable_cpus()
        self._llama = llama()
        self._pid = os.getpid()
        self._file = gate.check_model(path)
        gate.check_generates(self._file)
        self.path = self._file.path  # of the first shard, whichever was named
        self.config = config = self._within_positions(config)
        self._sizes = Hyperparameters(self._file.metadata)
        self.n_gpu_layers = devices.n_gpu_layers(config.device, config.n_gpu_layers)
        self._threads = self._adaptive_threads()
        forks.check_fork(self.n_threads, uses_gpu=self.uses_gpu)
        if config.check_memory:
            fitting.check(self._file, config, self.n_gpu_layers)
        check_unknown_vocabulary(self._file)
        self._model = load_model(self.path, self.n_gpu_layers, progress)
        # Frees context, then model, when closed, collected or at exit, whichever comes first.
        self._handles = Handles(self._llama, self._model)
        self._finalizer = weakref.finalize(self, self._handles.free)
        self._context: Context | None = None
        self._init_seconds = INIT_SECONDS
        try:
            self._read_model()
        except BaseException:
            self.close()
            raise

    # --- loading and closing ---

    def _within_positions(self, config: ModelConfig) -> ModelConfig:
        """Return ``config`` with an ``n_ctx`` that the model has positions for: llama.cpp aborts at
        the first token after a learned table's end."""
        positions = self._file.tensor(_POSITIONS)
        if positions is None or config.n_ctx <= (n_positions := positions.shape[-1]):
            return config
        warn(
            f"n_ctx is {n_positions} instead of {config.n_ctx}: {self.path.name} has learned no "
            f"more positions"
        )
        return replace(config, n_ctx=n_positions)

    def _adaptive_threads(self) -> AdaptiveThreads | None:
        """None where the number is fixed: it was given, is 1, or a GPU computes."""
        is_free = self._may_adapt and self.config.n_threads is None
        if not is_free or self.n_threads == 1 or self.uses_gpu:
            return None
        return AdaptiveThreads(self.n_threads)

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
        self.vocab = LlamaVocab(vocab, self._file.metadata, self._handles.in_flight)
        self.n_ctx_train = int(lib.llama_model_n_ctx_train(model))
        if self.config.n_ctx > self.n_ctx_train:
            logger.info(
                "n_ctx is %d, the model was trained on %d tokens",
                self.config.n_ctx,
                self.n_ctx_train,
            )
        has_kv = not lib.llama_model_is_recurrent(model)  # or only recurrent states
        is_recurrent = not has_kv or bool(lib.llama_model_is_hybrid(model))
        self._kind = MemoryKind(has_kv, is_recurrent)
        self._has_rope_factors = self._file.tensor(_LONG_ROPE_FACTORS) is not None
        self._state_bytes = sum(state_bytes_of_layers(self._file))
        self.not_saved_because = self._obstacle_to_saving()
        self._check_kv_type()
        self._fixed_attention = flash_attention_mode(
            self._sizes.n_head, self.config, uses_gpu=self.uses_gpu
        )
        self._attention = AttentionChoice(self._fixed_attention, adapts=self._attention_may_adapt())
        if self.adapts:
            self._attention.times = kept_times(self._file, self.n_threads, self.config.kv_type)

    def _attention_may_adapt(self) -> bool:
        """Whether passes may run with or without flash attention, as is faster: on a CPU, if nobody
        chose, where what sequences hold can be moved, and a pass takes long enough to gain.

        Its kernels compute in F16, so a KV cache in F32 would lose what it was chosen for.
        """
        config = self.config
        is_free = config.flash_attention == "auto" and not config.deterministic
        can_move = self._kind.has_kv and not self._kind.is_recurrent and self.can_save
        n_bytes = sum(each.n_bytes for shard in self._file.shards for each in shard.tensors)
        return (
            self._may_adapt
            and is_free
            and config.kv_type != "f32"
            and can_move
            and self._fixed_attention == "off"
            and n_bytes >= LEAST_WEIGHTS
        )

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
    def sizes(self) -> dict[str, int | str]:
        """See ``ModelBackend``."""
        return sizes_by_name(self._file.metadata)

    @property
    def weights(self) -> tuple[Weight, ...]:
        """See ``ModelBackend``."""
        return tuple(
            Weight(tensor.name, tensor.shape[::-1], tensor.type.name)
            for shard in self._file.shards
            for tensor in shard.tensors
        )

    @property
    def sampling_defaults(self) -> dict[str, Any]:
        """See ``metadata.sampling_defaults``."""
        return sampling_defaults(self._file.metadata)

    @functools.cached_property
    def pass_costs(self) -> PassCosts:
        """See ``ModelBackend``. They are kept when the model is closed."""
        return kept_costs(self._file, self._setting)

    @property
    def _setting(self) -> str:
        """What pass times depend on, apart from the model and the machine."""
        config = self.config
        return f"{self.n_threads}-{config.kv_type}-{config.flash_attention}-{self.n_gpu_layers}"

    def close(self) -> None:
        """Free context and model; calling it again does nothing.

        Waits for other threads that tokenize, and for a context that is still being made. Ctrl-C
        ends the waiting, and frees nothing.
        """
        self._context = None
        self._handles.in_flight.end()
        if "pass_costs" in self.__dict__ and self._finalizer.alive and not self.is_forked:
            keep_costs(self._file, self._setting, self.pass_costs)
        if self.is_forked:
            self._finalizer.detach()
        else:
            self._handles.free_context_init()
            self._finalizer()

    def with_own_context(self, max_sequences: int) -> LlamaBackend:
        """Return a backend with the same weights and a context of its own.

        Closing this one closes both. ``run`` keeps that from happening while the other is used.
        """
        other = copy.copy(self)
        for own in ("_default_kv_budget", "pass_costs"):
            other.__dict__.pop(own, None)
        n_batch = max(self.config.n_batch, max_sequences)
        n_ubatch = self.config.n_ubatch and max(self.config.n_ubatch, max_sequences)
        other.config = replace(
            self.config, max_sequences=max_sequences, n_batch=n_batch, n_ubatch=n_ubatch
        )
        other._context, other._n_resets_before = None, 0
        other._threads = other._adaptive_threads()
        other._attention = self._attention.for_own_context()
        other._handles = Handles(self._llama, None)
        other._finalizer = weakref.finalize(other, other._handles.free)
        self._handles.sharing.add(other._handles)
        return other

    def run(self, call: Callable[[], Result]) -> Result:
        """Return the result of a call during which ``close`` waits. Raises ClosedError if it has
        been closed."""
        return self._handles.in_flight.run(call)

    def leave(self) -> None:
        """Free nothing, now or when Python ends: a thread is still in llama.cpp."""
        self._finalizer.detach()

    @property
    def is_forked(self) -> bool:
        """Whether this process was forked from the one that loaded the model."""
        return os.getpid() != self._pid

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise ClosedError(CLOSED)

    def check_usable(self) -> None:
        """Raise ClosedError or BackendError unless this process may run the model now."""
        if self.is_forked:
            raise BackendError(
                "this model was loaded before a fork: llama.cpp's threads do not exist in the "
                "child; start processes with 'spawn' and load the model there"
            )
        self._check_open()
        # A file that shrinks while it is mapped kills the process at the next read.
        try:
            has_changed = self._file.has_changed()
        except OSError as error:
            raise BackendError(
                f"{self.path} can no longer be checked for changes: {error.strerror}; load the "
                f"model again"
            ) from error
        if has_changed:
            raise BackendError(f"{self.path} was changed after it was loaded; load the model again")

    # --- context ---

    @property
    def n_vocab(self) -> int:
        return self._n_vocab

    @property
    def n_batch(self) -> int:
        return self.config.n_batch

    @property
    def n_ubatch(self) -> int:
        """The most tokens of a pass that llama.cpp computes at once."""
        return tokens_at_once(self.config)

    @property
    def uses_gpu(self) -> bool:
        return self.n_gpu_layers != 0

    @property
    def idle_cpus(self) -> int:
        """See ``ModelBackend``. While a GPU computes, only the thread that waits for it is busy."""
        n_busy = 1 if self.uses_gpu else self.n_threads
        return max(0, system.usable_cpus() - n_busy)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of KV cache for one token; for windowed or recurrent models, at most."""
        return self._sizes.kv_bytes_per_token(self.config.kv_type)

    @property
    def n_cache_resets(self) -> int:
        """See ``Backend``."""
        return self._n_resets_before + (
            0 if self._context is None else self._context.n_cache_resets
        )

    @property
    def n_slots(self) -> int:
        return 0 if self._context is None else self._context.n_slots

    @property
    def n_ctx_seq(self) -> int:
        return 0 if self._context is None else self._context.n_ctx_seq

    @property
    def can_truncate(self) -> bool:
        return not self._kind.is_recurrent

    @property
    def kv_budget(self) -> int | None:
        """Bytes that all sequences together may take, on GPUs too; None if only the memory of the
        GPUs limits them."""
        return self._default_kv_budget if self.config.kv_budget is None else self.config.kv_budget

    @functools.cached_property
    def _default_kv_budget(self) -> int | None:
        memory = system.available_memory()
        estimate = fitting.estimate(self._file, self.config, self.n_gpu_layers)
        if memory is None or not estimate.kv_share_in_ram:
            return None
        # One sequence may become n_ctx tokens long if that was checked at load.
        least = self._slot_bytes(self.config.n_ctx)
        least = least if self.config.check_memory else 0
        return max(int(memory * KV_SHARE / estimate.kv_share_in_ram), least)

    def n_slots_that_fit(self, n_tokens: int) -> int:
        """See ``Backend``."""
        per_slot = self._slot_bytes(n_tokens)
        if self.kv_budget is None or not per_slot:
            return self.config.max_sequences
        return self.kv_budget // per_slot

    def _slot_bytes(self, n_tokens: int) -> int:
        """Return the bytes that a sequence of ``n_tokens`` gets: KV cache and recurrent states."""
        return self.kv_bytes_per_token * self._slot_size(n_tokens) + self._state_bytes

    def _slot_size(self, n_tokens: int) -> int:
        """Return for how many tokens a sequence of ``n_tokens`` gets room: powers of two, so that a
        chat that grows remakes its context only a few times."""
        most = _whole_cells(self.config.n_ctx)
        least = _MIN_CONTEXT
        if self._has_long_rope:
            least = _whole_cells(self._n_ctx_original + 1)
        return min(max(least, 1 << (n_tokens - 1).bit_length()), most)

    @property
    def _n_ctx_original(self) -> int:
        """Tokens of the longest context in which llama.cpp rotates by a model's short factors."""
        name = "rope.scaling.original_context_length"
        return self._sizes.number(name, self.n_ctx_train)

    @property
    def _has_long_rope(self) -> bool:
        """Whether keys are rotated by a LongRoPE model's long factors.

        llama.cpp chooses them by the length of its context. So that what is cached goes on to mean
        the same, and no result depends on its neighbours' lengths, ``n_ctx`` alone decides.
        """
        return self._has_rope_factors and _whole_cells(self.config.n_ctx) > self._n_ctx_original

    @property
    def can_share_cells(self) -> bool:
        # The cells of all sequences together would count as the length of the context.
        return not self._kind.is_recurrent and self.can_save and not self._has_rope_factors

    def cells_fit(self, n_cells: int) -> bool:
        """See ``Backend``."""
        return self.kv_budget is None or n_cells * self.kv_bytes_per_token <= self.kv_budget

    # --- flash attention ---

    @property
    def adapts(self) -> bool:
        """See ``Backend``."""
        return self._attention.adapts

    @property
    def flash_attention(self) -> str:
        """See ``Backend``; without a context, that of the next one."""
        return self._attention.next if self._context is None else self._context.flash_attention

    @property
    def attention_obstacle(self) -> str | None:
        """See ``Backend``."""
        return self._attention.obstacle

    def suits(self, work: Work | None, should_stop: Callable[[], bool] | None = None) -> bool:
        """See ``Backend``. The first work that is worth it is measured for; see
        ``attention_probe``."""
        current = None if self._context is None else self._context.flash_attention
        attention = self._attention
        if attention.is_unmeasured_for(work):
            attention.measure(lambda: self._attention_times(should_stop))
        return attention.suits(work, current, self._switch_seconds)

    @property
    def _switch_seconds(self) -> float:
        """About how long it takes to make the context anew, with all that it holds."""
        n_tokens = 0 if self._context is None else int(self._context.lengths.sum())
        return self._init_seconds + n_tokens * self.kv_bytes_per_token / MOVED_BYTES_PER_SECOND

    def _attention_times(self, should_stop: Callable[[], bool] | None) -> AttentionTimes | None:
        """Measure passes in both settings, and keep it; None if there is no room for it."""
        found = self._measured_attention(should_stop)
        if found is None:
            return None
        if found.is_steady:
            keep_times(self._file, self.n_threads, self.config.kv_type, found.times)
        return found.times

    def _measured_attention(self, should_stop: Callable[[], bool] | None) -> Measured | None:
        """Measure passes in both settings; None if there is no room for it."""
        n_tokens = min(self.config.n_ctx // 2, MOST_PROBE_BYTES // max(1, self.kv_bytes_per_token))
        depths = attention_probe.depths_within(n_tokens)
        if not depths:
            return None
        # Both contexts together hold no more than a sequence of n_ctx tokens, for which there was
        # memory when the model was loaded.
        n_tokens = depths[-1] + attention_probe.SPARE
        context = self._context
        n_held = 0 if context is None else context.n_slots * context.n_ctx_seq
        if not self.cells_fit(n_held + 2 * n_tokens):
            return None
        forks.note_passes(self.n_threads, uses_gpu=self.uses_gpu)
        with ExitStack() as stack:
            contexts = {
                setting: stack.enter_context(self._probe_context(n_tokens, setting))
                for setting in SETTINGS
            }
            return attention_probe.measure(contexts, depths, self._n_vocab, should_stop)

    @contextmanager
    def _probe_context(self, n_tokens: int, flash_attention: str) -> Iterator[Context]:
        """Lend a context of one sequence of ``n_tokens``, for short passes."""
        size = ContextSize(1, n_tokens, is_unified=False, flash_attention=flash_attention)
        params = self._params(size)
        params.n_batch = params.n_ubatch = attention_probe.N_PREFILL
        handle = self._llama.llama_init_from_model(self._model, params)
        if not handle:
            raise BackendError(f"llama.cpp gave no context: {log_router.take_errors()}")
        try:
            yield self._wrapped(handle, size, attention_probe.N_PREFILL)
        finally:
            self._llama.llama_free(handle)

    def reserve(
        self,
        n_slots: int,
        n_tokens: int,
        keep: Sequence[int] = (),
        *,
        n_cells: int | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """See ``Backend``."""
        if n_tokens > self._slot_size(self.config.n_ctx):
            raise ContextFullError(n_tokens, self.config.n_ctx)
        n_fit = self.n_slots_that_fit(n_tokens)
        if n_cells is None and n_slots > n_fit:
            per_slot = self._slot_bytes(n_tokens)
            raise BackendError(
                f"{counted(n_slots, 'sequence')} of {n_tokens} tokens would take "
                f"{n_slots * per_slot / 2**20:.0f} MiB of KV cache, and kv_budget is "
                f"{(self.kv_budget or 0) / 2**20:.0f} MiB; use fewer tokens, a larger kv_budget, "
                f"or kv_type='q8_0'"
            )
        kept = self._kept(keep)
        present = self._attention.fixed if self._context is None else self.flash_attention
        self._free_context()
        n_ctx_seq = n_cells or self._slot_size(n_tokens)
        size = ContextSize(n_slots, n_ctx_seq, n_cells is not None, self._attention.next)
        try:
            context = self._new_context(size, should_stop)
        except BackendError as error:
            if size.flash_attention == present:
                raise
            context = self._new_context(replace(size, flash_attention=present), should_stop)
            self._attention.stay(present, error)
        restored = [context.set_state(seq_id, *saved) for seq_id, saved in enumerate(kept)]
        if sum(restored) < len(keep):
            context.lose_all()

    def _kept(self, seq_ids: Sequence[int]) -> list[tuple[State, int]]:
        """What these sequences hold, and of how many tokens, as far as it can be moved."""
        if self._context is None and not seq_ids:
            return []
        context = self._open_context
        context.check_seq_ids(*seq_ids)
        context.flush_copies()
        if not self.can_save:
            return []
        return [(context.state(seq_id), int(context.lengths[seq_id])) for seq_id in seq_ids]

    def _free_context(self) -> None:
        self._handles.free_context()
        if self._context is not None:
            self._n_resets_before += self._context.n_cache_resets
        self._context = None

    def release(self) -> None:
        """Free the context with everything in it: the next ``reserve`` is like the first one."""
        self._n_resets_before += 1
        self._handles.free_context_init()
        self._free_context()

    def _new_context(
        self, least: ContextSize, should_stop: Callable[[], bool] | None = None
    ) -> Context:
        """Return a context of at least that size: a new one, or one that a stopped call left.

        Raises PassStopped if ``should_stop()``; what is being made then is for the next call.
        """
        handles = self._handles
        started = time.perf_counter()
        if handles.context_init is not None:
            handles.context_init.wait(should_stop)
            if not (handles.context_init.handle and handles.context_init.size.has_room_for(least)):
                handles.free_context_init()
        if handles.context_init is None:
            params = self._params(least)
            log_router.take_errors()
            handles.context_init = ContextInit(least)
            handles.context_init.start(
                lambda: self._llama.llama_init_from_model(self._model, params)
            )
            handles.context_init.wait(should_stop)
        handle, size = handles.context_init.handle, handles.context_init.size
        # In this order Ctrl-C may come anywhere: at worst the context is never freed.
        handles.context_init, handles.context = None, handle
        if not handle:
            raise BackendError(
                f"llama.cpp cannot make a context of {size.n_slots} x {size.n_ctx_seq} tokens with "
                f"kv_type={self.config.kv_type!r}: "
                f"{log_router.take_errors() or 'no reason was given'}; use a smaller n_ctx"
            )
        forks.note_passes(self.n_threads, uses_gpu=self.uses_gpu)
        self._context = self._wrapped(handle, size, self.config.n_batch)
        self._attention.made()
        self._init_seconds = time.perf_counter() - started
        return self._context

    def _wrapped(self, handle: Any, size: ContextSize, n_batch: int) -> Context:
        return Context(
            self._llama,
            handle,
            n_slots=size.n_slots,
            n_batch=n_batch,
            n_vocab=self._n_vocab,
            kind=self._kind,
            is_unified=size.is_unified,
            flash_attention=size.flash_attention,
            is_quantized=self.config.kv_type not in UNQUANTIZED,
        )

    def _params(self, size: ContextSize) -> Any:
        """Return the llama_context_params of a context."""
        params = self._llama.llama_context_default_params()
        params.n_ctx = size.n_ctx
        params.n_batch, params.n_ubatch = self.config.n_batch, self.n_ubatch
        params.n_seq_max = size.n_slots
        params.n_threads = params.n_threads_batch = self.n_threads
        params.type_k = params.type_v = _GGML_TYPES[self.config.kv_type]
        params.flash_attn_type = FLASH_ATTENTION_TYPES[size.flash_attention]
        # With a KV stream each, sequences do not attend to each other's cells.
        params.kv_unified = size.is_unified
        params.offload_kqv = params.op_offload = self.uses_gpu
        if self._eval_callback is not None:
            params.cb_eval = self._eval_callback
        return params

    # --- forward passes and sequences: see ``Context`` ---

    @property
    def _open_context(self) -> Context:
        if self._context is None:
            raise DecodeError("there is no context yet: call reserve() first")
        return self._context

    def decode(self, batch: Batch, should_stop: Callable[[], bool] | None = None) -> Logits:
        """See ``Backend``. Raises DecodeError, and what ``should_stop`` raises."""
        context = self._open_context
        if self._threads is None:
            logits = context.decode(batch, should_stop)
        else:
            logits = self._threads.decode(context, batch, should_stop)
        if self.adapts:
            n_rows = len(batch.output_rows)
            depth = int(batch.positions[-1])
            self._attention.ran(len(batch.token_ids) - n_rows, n_rows, depth)
        return logits

    @property
    def pass_threads(self) -> int:
        """See ``Backend``."""
        return self.n_threads if self._threads is None else self._threads.n_threads

    def forget(self) -> None:
        """See ``Backend``."""
        if self._context is not None:
            self._context.forget()

    @contextmanager
    def lent_context(self) -> Iterator[Any]:
        """Lend the emptied llama_context for passes that are not noted here (see ``baseline``);
        what they leave is lost."""
        context = self._open_context
        context.lose_all()
        context.use_threads(self.n_threads)
        try:
            yield context.handle
        finally:
            context.lose_all()

    def kv_truncate(self, seq_id: int, n_tokens: int) -> bool:
        """See ``Backend``."""
        return self._open_context.truncate(seq_id, n_tokens)

    def kv_copy(self, source: int, target: int) -> None:
        """See ``Backend``."""
        self._open_context.copy(source, target)

    def flush_copies(self) -> None:
        """See ``Backend``."""
        if self._context is not None:
            self._context.flush_copies()

    def kv_state(self, seq_id: int) -> State:
        """See ``Backend``; for this model and settings only. Where attention adapts, or did, values
        are as without flash attention, whichever they were computed with."""
        context = self._open_context
        state = context.state(seq_id)
        is_as_fixed = context.flash_attention == self._fixed_attention
        return state if is_as_fixed else to_layout(state, transposed=True)

    def set_kv_state(self, seq_id: int, saved: State, n_tokens: int) -> bool:
        """See ``Backend``. The bytes are trusted: C checks little of them."""
        return self._open_context.set_state(seq_id, saved, n_tokens)

    # --- what can be saved ---

    @property
    def can_save(self) -> bool:
        """Whether ``kv_state`` works: of a sliding window llama.cpp saves only the end, and the
        bytes of several caches cannot be told apart."""
        return not int(self._llama.llama_model_n_swa(self._model)) and not self._has_indexer

    @property
    def _has_indexer(self) -> bool:
        """Whether attention looks first in a small cache of its own for the tokens that matter."""
        return any(".attention.indexer." in key for key in self._file.metadata)

    def _obstacle_to_saving(self) -> str | None:
        """Return why a sequence's state cannot be kept in a file; None if it can."""
        if self._has_indexer:
            return "the model has an attention indexer with a second cache, which cannot be kept"
        if not self.can_save:
            return (
                "the model attends to a sliding window, and llama.cpp saves only the end of what "
                "such a model computed"
            )
        if self._kind.is_recurrent and self._kind.has_kv:
            return (
                "the model has both recurrent states and a KV cache, and what llama.cpp saves of "
                "it fits only a context with the same number of sequences"
            )
        return None

    @functools.cached_property
    def state_identity(self) -> dict[str, str]:
        """What must be the same, by name, for the bytes of ``kv_state`` to mean the same.

        Raises ModelFileError if the model's file can no longer be read.
        """
        try:
            model = fingerprint(*self._file.paths)
        except OSError as error:
            raise ModelFileError(f"{self.path} can no longer be read: {error}") from error
        identity = {
            "model's fingerprint": model,
            "llama.cpp": llama_version(),
            "kv_type": self.config.kv_type,
            "flash_attention": self._fixed_attention,
        }
        if self._has_rope_factors:
            side = "above" if self._has_long_rope else "up to"
            identity["n_ctx"] = f"{side} {self._n_ctx_original}"
        return identity


def _whole_cells(n_tokens: int) -> int:
    """Return ``n_tokens`` rounded up to what a KV cache grows by."""
    return -(-n_tokens // CELLS) * CELLS
