"""A model of Python lists and a vocabulary of bytes: the engine's seam, without llama.cpp.

``FakeBackend`` keeps the tokens that each slot's KV cache would hold and makes logits from them
alone. A row that is decoded at a wrong position, in a wrong slot or after a wrong copy therefore
gets other tokens, and the test that compares it sees it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from localgen import LocalModel, ModelConfig
from localgen.engine.backend import Batch, DeadlineReached, Logits, TokenIds

N_VOCAB = 259
BOS, EOS, END_OF_TURN = 256, 257, 258

Script = Callable[[list[int]], int]


class FakeVocab:
    """Token i is byte i; then BOS, EOS and END_OF_TURN."""

    n_vocab = N_VOCAB
    bos_token_id = BOS
    eos_token_id = EOS
    pad_token_id = None
    adds_space_prefix = False
    eog_ids = (EOS, END_OF_TURN)

    def is_special(self, token_id: int) -> bool:
        return token_id >= 256

    def tokenize(self, text: bytes, *, add_special: bool, parse_special: bool) -> TokenIds:
        if not parse_special:
            return np.frombuffer(text, np.uint8).astype(np.int32)
        ids: list[int] = []
        for index, part in enumerate(text.split(b"<eos>")):
            ids += [EOS] * (index > 0) + list(part)
        return np.array(ids, np.int32)

    def token_bytes(self, token_id: int) -> bytes:
        names = {BOS: b"<bos>", EOS: b"<eos>", END_OF_TURN: b"<end>"}
        return names.get(token_id) or bytes([token_id])


def hashed_letter(tokens: list[int]) -> int:
    """A lower-case letter that depends on every token so far."""
    return 97 + zlib.crc32(bytes(str(tokens), "ascii")) % 26


def hashed_logits(tokens: list[int], best: int) -> Logits:
    """Logits (N_VOCAB,) that depend on every token, with ``best`` on top by a clear margin."""
    seed = zlib.crc32(bytes(str(tokens), "ascii"))
    logits = np.random.RandomState(seed).standard_normal(N_VOCAB).astype(np.float32)
    logits[256:] -= 10
    logits[best] = 8.0
    return logits


class FakeBackend:
    """Implements ``engine.backend.Backend``; ``script`` gives the likeliest next token."""

    def __init__(
        self,
        script: Script = hashed_letter,
        *,
        n_batch: int = 16,
        max_sequences: int = 4,
        margin: float = 8.0,
    ) -> None:
        self.vocab = FakeVocab()
        self.owner: object = None
        self.n_batch = n_batch
        self.n_vocab = N_VOCAB
        self.max_sequences = max_sequences
        self.script = script
        self.margin = margin
        self.kv: dict[int, list[int]] = {}
        self.calls: list[tuple[str, object]] = []
        self.on_decode: Callable[[], None] = lambda: None
        self.closed = False
        self.is_forked = False
        self._buffer = np.empty((0, N_VOCAB), np.float32)

    def check_usable(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def reserve(self, n_sequences: int, n_tokens: int) -> int:
        self.calls.append(("reserve", (n_sequences, n_tokens)))
        self.kv = {slot: [] for slot in range(min(n_sequences, self.max_sequences))}
        return len(self.kv)

    def decode(self, batch: Batch, deadline: float | None = None) -> Logits:
        assert 0 < len(batch.token_ids) <= self.n_batch
        assert np.all(np.diff(batch.seq_ids) >= 0), "sequences must come in rising seq_id"
        self.calls.append(("decode", batch.seq_ids.tolist()))
        self.on_decode()
        rows = []
        for token, position, slot, wanted in zip(
            batch.token_ids.tolist(),
            batch.positions.tolist(),
            batch.seq_ids.tolist(),
            batch.wants_logits.tolist(),
            strict=True,
        ):
            assert position == len(self.kv[slot]), "positions must follow what the slot holds"
            self.kv[slot].append(token)
            if wanted:
                rows.append(hashed_logits(self.kv[slot], self.script(self.kv[slot])))
        # As in llama.cpp, rows of an earlier call are overwritten.
        self._buffer[:] = np.nan
        self._buffer = np.array(rows, np.float32).reshape(len(rows), N_VOCAB)
        return self._buffer

    def kv_remove(self, seq_id: int) -> None:
        self.calls.append(("kv_remove", seq_id))
        self.kv[seq_id] = []

    def kv_copy(self, source: int, target: int) -> None:
        self.calls.append(("kv_copy", (source, target)))
        self.kv[target] = list(self.kv[source])

    @property
    def n_decoded(self) -> int:
        """Tokens that went through ``decode``."""
        return sum(len(slots) for name, slots in self.calls if name == "decode")  # type: ignore[arg-type]


class LateBackend(FakeBackend):
    """A FakeBackend whose forward pass is cut off by its deadline at call ``late_call``."""

    late_call = 3

    def decode(self, batch: Batch, deadline: float | None = None) -> Logits:
        n_calls = sum(name == "decode" for name, _ in self.calls)
        if deadline is not None and n_calls + 1 == self.late_call:
            raise DeadlineReached
        return super().decode(batch, deadline)


def fake_model(script: Script = hashed_letter, *, n_ctx: int = 512, **options: int) -> LocalModel:
    """A LocalModel on a FakeBackend; ``model._backend`` is that backend."""
    return LocalModel(FakeBackend(script, **options), ModelConfig(n_ctx=n_ctx))


def spelling(*text: str) -> Script:
    """A script that spells ``text`` after any prompt that ends in "?", then says EOS."""
    letters = [byte for part in text for byte in part.encode()]

    def script(tokens: list[int]) -> int:
        n_new = len(tokens) - (len(tokens) - tokens[::-1].index(ord("?")))
        return letters[n_new] if n_new < len(letters) else EOS

    return script


def reference_greedy(prompt: list[int], n_new: int, script: Script = hashed_letter) -> list[int]:
    """The slow loop: each token from the whole sequence, no cache; EOS ends it."""
    tokens = list(prompt)
    for _ in range(n_new):
        tokens.append(script(tokens))
        if tokens[-1] in FakeVocab.eog_ids:
            break
    return tokens[len(prompt) :]
