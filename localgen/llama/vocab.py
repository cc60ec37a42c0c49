"""Converts text bytes ↔ token ids with llama.cpp's vocabulary; no padding, no templates."""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable, Mapping
from itertools import compress, repeat
from typing import Any, TypeVar

import numpy as np

from localgen._util.threads import start_thread
from localgen.engine.backend import TokenIds
from localgen.errors import BackendError
from localgen.gguf.metadata import chat_templates
from localgen.gguf.reader import Value
from localgen.llama.in_flight_calls import InFlightCalls
from localgen.llama.library import llama

Result = TypeVar("Result")

_SPM = 1
_CONTROL = 1 << 3
_UNKNOWN = 1 << 0
# Some pre-tokenizers use std::regex, which recurses: a long run without spaces overflows a normal
# thread's stack and kills the process. 512 MiB of address space, committed only as needed, is
# enough for runs of a few million characters.
_LONG_TEXT = 4096
_BIG_STACK = 512 * 2**20
_LONGEST_RUN = 1_000_000
_stack_size_lock = threading.Lock()


class LlamaVocab:
    """The vocabulary of a loaded model, usable from any thread while the model is open."""

    def __init__(
        self,
        vocab: Any,
        metadata: Mapping[str, Value],
        in_flight: InFlightCalls,
    ) -> None:
        """metadata: the model file's. in_flight: ended before the model and its vocabulary are
        freed."""
        self._llama = llama()
        self._in_flight = in_flight
        self._vocab = vocab
        self.n_vocab: int = self._llama.llama_vocab_n_tokens(vocab)
        self.bos_token_id = self._optional(self._llama.llama_vocab_bos(vocab))
        self.eos_token_id = self._optional(self._llama.llama_vocab_eos(vocab))
        self.pad_token_id = self._optional(self._llama.llama_vocab_pad(vocab))
        self._is_spm = self._llama.llama_vocab_type(vocab) == _SPM
        self.adds_space_prefix = (
            self._is_spm and metadata.get("tokenizer.ggml.add_space_prefix") is not False
        )
        self.adds_bos = bool(self._llama.llama_vocab_get_add_bos(vocab))
        self.chat_templates = chat_templates(metadata)

    def is_special(self, token_id: int) -> bool:
        """Return whether ``skip_special_tokens`` omits the token: a control or unknown token."""
        vocab = self._vocab
        attributes = self._in_flight.run(lambda: self._llama.llama_vocab_get_attr(vocab, token_id))
        return bool(attributes & (_CONTROL | _UNKNOWN))

    @functools.cached_property
    def eog_ids(self) -> tuple[int, ...]:
        """The tokens that end generation according to llama.cpp, in ascending order."""
        # One C call per token, about 20 ms for 49k tokens: done once, when first needed.
        is_eog = map(self._llama.llama_vocab_is_eog, repeat(self._vocab), range(self.n_vocab))
        return self._in_flight.run(lambda: tuple(compress(range(self.n_vocab), is_eog)))

    def _optional(self, token_id: int) -> int | None:
        return int(token_id) if 0 <= token_id < self.n_vocab else None

    def tokenize(self, text: bytes, *, add_special: bool, parse_special: bool) -> TokenIds:
        """Return the token ids (n,) int32 of UTF-8 ``text``.

        Raises ValueError if a run without white space is too long to be tokenized safely, and
        BackendError if the system cannot create the thread that a long text needs.
        """

        def tokenized() -> TokenIds:
            return self._in_flight.run(lambda: self._tokenize(text, add_special, parse_special))

        if len(text) < _LONG_TEXT:
            return tokenized()
        longest = max(map(len, text.split()), default=0)
        if longest > _LONGEST_RUN:
            raise ValueError(
                f"the text has a run of {longest} bytes without white space; at most "
                f"{_LONGEST_RUN} can be tokenized safely. Split the text, or pass token ids."
            )
        return _on_big_stack(tokenized)

    def _tokenize(self, text: bytes, add_special: bool, parse_special: bool) -> TokenIds:
        capacity = len(text) + 8
        while True:
            ids = np.empty(capacity, np.int32)
            pointer = ids.ctypes.data_as(ctypes.POINTER(self._llama.llama_token))
            n_tokens = self._llama.llama_tokenize(
                self._vocab, text, len(text), pointer, capacity, add_special, parse_special
            )
            if n_tokens >= 0:
                tokens: TokenIds = ids[:n_tokens].copy()
                return tokens
            capacity = -n_tokens

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of a token of any length; those of a special token are its name.

        ``token_id`` must be in [0, n_vocab).
        """
        return self._in_flight.run(lambda: self._token_bytes(token_id))

    def _token_bytes(self, token_id: int) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            n_bytes = self._llama.llama_token_to_piece(self._vocab, token_id, buffer, size, 0, True)
            if n_bytes >= 0:
                return buffer.raw[:n_bytes]
            size = -n_bytes


def _on_big_stack(work: Callable[[], Result]) -> Result:
    """Run ``work`` in a thread with a big stack; return its result or raise its exception.

    It cannot be interrupted: Ctrl-C is raised once it is done. Raises BackendError if the system
    cannot create the thread.
    """
    with _stack_size_lock:
        before = threading.stack_size(_BIG_STACK)
        try:
            thread, future = start_thread(work, "localgen-tokenize")
        except RuntimeError as error:  # raised by Python if the system creates no thread
            raise BackendError(
                f"a text of {_LONG_TEXT} bytes or more is tokenized in its own thread with a stack "
                f"of {_BIG_STACK // 2**20} MiB, and the system cannot create one ({error}). Raise "
                f"this process's limit of memory or threads (ulimit -v, ulimit -u), or tokenize "
                f"shorter parts."
            ) from error
        finally:
            threading.stack_size(before)
    interrupt: BaseException | None = None
    while thread.is_alive():
        try:
            thread.join()
        except BaseException as error:  # raised by a signal handler
            interrupt = error
    if interrupt is not None:
        raise interrupt
    return future.result()
