"""Converts text bytes ↔ token ids with llama.cpp's vocabulary; no padding, no templates."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping
from itertools import compress, repeat
from typing import Any

import numpy as np

from localgen.engine.backend import TokenIds
from localgen.gguf.metadata import Hyperparameters, chat_templates
from localgen.gguf.reader import Array, Value
from localgen.gguf.vocab_types import MODEL, PRE
from localgen.llama.in_flight_calls import InFlightCalls
from localgen.llama.library import llama
from localgen.llama.vocab_stack import on_safe_stack
from localgen.text.vocab import TokenType

_SPM, _BPE = 1, 2
# GGUF's numbers → names, and llama.cpp's attributes for the same.
_TYPES: dict[int, TokenType] = {
    1: "normal", 2: "unknown", 3: "control", 4: "user_defined", 5: "unused", 6: "byte",
}  # fmt: skip
_ATTRIBUTES: dict[int, TokenType] = {
    1 << 0: "unknown", 1 << 1: "unused", 1 << 3: "control", 1 << 4: "user_defined", 1 << 5: "byte",
}  # fmt: skip


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
        self._metadata = metadata
        self.n_vocab: int = self._llama.llama_vocab_n_tokens(vocab)
        self.bos_token_id = self._optional(self._llama.llama_vocab_bos(vocab))
        self.eos_token_id = self._optional(self._llama.llama_vocab_eos(vocab))
        self.pad_token_id = self._optional(self._llama.llama_vocab_pad(vocab))
        self.unk_token_id = self._stated("unknown")
        kind = self._llama.llama_vocab_type(vocab)
        # Types of vocabulary other than "gpt2" have their own.
        model, pre = metadata.get(MODEL, "gpt2"), metadata.get(PRE, "default")
        self._pre_tokenizer = str(pre if model == "gpt2" else model) if kind == _BPE else None
        self.adds_space_prefix = (
            kind == _SPM and metadata.get("tokenizer.ggml.add_space_prefix") is not False
        )
        self.adds_bos = bool(self._llama.llama_vocab_get_add_bos(vocab))
        self.chat_templates = chat_templates(metadata)

    @property
    def n_ctx_train(self) -> int | None:
        """The longest sequence that the model was trained on, in tokens; None if unknown."""
        return Hyperparameters(dict(self._metadata)).number("context_length") or None

    def _optional(self, token_id: int) -> int | None:
        return int(token_id) if 0 <= token_id < self.n_vocab else None

    def _stated(self, name: str) -> int | None:
        """Return a special token that the file itself names; None if it does not."""
        token_id = self._metadata.get(f"tokenizer.ggml.{name}_token_id")
        return self._optional(token_id) if type(token_id) is int else None

    # --- types of tokens ---

    @functools.cached_property
    def _types(self) -> Any:
        """GGUF's type of each token, or None if the file has none."""
        types = self._metadata.get("tokenizer.ggml.token_type")
        return types.values if isinstance(types, Array) else None

    def token_type(self, token_id: int) -> TokenType:
        """Return the token's type in the file.

        llama.cpp makes a control token of each that has the name of an end, ``</s>`` in HTML too.
        """
        if self._types is not None:
            return _TYPES.get(int(self._types[token_id]), "normal")
        vocab = self._vocab
        attributes = self._in_flight.run(lambda: self._llama.llama_vocab_get_attr(vocab, token_id))
        return next((name for bit, name in _ATTRIBUTES.items() if attributes & bit), "normal")

    def is_special(self, token_id: int) -> bool:
        """Return whether ``skip_special_tokens`` omits the token: a control or unknown token, or
        an end."""
        return token_id in self._special_ids

    @functools.cached_property
    def _special_ids(self) -> frozenset[int]:
        types = map(self.token_type, range(self.n_vocab))
        marked = (i for i, kind in enumerate(types) if kind in ("control", "unknown"))
        return frozenset((*marked, *self.eog_ids))

    @functools.cached_property
    def eog_ids(self) -> tuple[int, ...]:
        """The tokens that end generation, in ascending order.

        Those that the file names. Of those that llama.cpp knows by their spelling: control tokens,
        and what a chat template writes; ``</s>`` may be HTML. Tokens of infilling end nothing.
        """
        named = (self.eos_token_id, self._stated("eot"), self._stated("eom"))
        known = filter(self._is_end, self._known_ends())
        return tuple(sorted({*known, *(i for i in named if i is not None)}))

    def _known_ends(self) -> set[int]:
        """Return what ends generation in llama.cpp, infilling apart."""
        lib, vocab = self._llama, self._vocab
        # One C call per token, about 20 ms for 49k tokens: done once, when first needed.
        is_eog = map(lib.llama_vocab_is_eog, repeat(vocab), range(self.n_vocab))
        infilling = (lib.llama_vocab_fim_pad, lib.llama_vocab_fim_rep, lib.llama_vocab_fim_sep)

        def known() -> set[int]:
            ends = set(compress(range(self.n_vocab), is_eog))
            return ends - {int(token_of(vocab)) for token_of in infilling}

        return self._in_flight.run(known)

    def _is_end(self, token_id: int) -> bool:
        text = self.token_bytes(token_id).decode("utf-8", errors="replace")
        is_written = any(text in source for source in self.chat_templates.values())
        return is_written or self.token_type(token_id) == "control"

    # --- text ↔ token ids ---

    def tokenize(self, text: bytes, *, add_special: bool, parse_special: bool) -> TokenIds:
        """Return the token ids (n,) int32 of UTF-8 ``text``.

        Raises ValueError if a part of the text is too long to be tokenized safely, and
        BackendError if the system cannot create the thread that a long text needs.
        """

        def tokenized() -> TokenIds:
            return self._in_flight.run(lambda: self._tokenize(text, add_special, parse_special))

        return on_safe_stack(text, self._pre_tokenizer, tokenized)

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

    def token_text(self, token_id: int) -> str:
        """Return the vocabulary's own spelling of a token, which is unique."""
        vocab = self._vocab
        text = self._in_flight.run(lambda: self._llama.llama_vocab_get_text(vocab, token_id))
        return str(text, "utf-8", "backslashreplace")

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
