"""A model of Python lists and a vocabulary of bytes: the engine's seam, without llama.cpp.

``FakeBackend`` keeps the tokens that the KV cache would hold of each sequence, and makes logits of
them alone. A sequence that is decoded at a wrong position, under a wrong seq_id or after a wrong
copy therefore gets other tokens, and the test that compares it sees it.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from localgen import ClosedError, LocalModel, ModelConfig
from localgen.engine.backend import Batch, Logits, PassStopped, State, TokenIds, Work
from localgen.engine.constraint import ConstraintTracker, MasksOf, MaskWorker, masks_one_by_one
from localgen.engine.decoding import DecodingStrategy
from localgen.engine.engine import Engine
from localgen.engine.pass_costs import PassCosts
from localgen.engine.request import Request
from localgen.engine.sequence import Sequence as EngineSequence
from localgen.errors import CLOSED
from localgen.generation.constraining import Constraints
from localgen.generation.model_facts import Weight
from localgen.text.vocab import TokenType

N_VOCAB = 259
BOS, EOS, END_OF_TURN = 256, 257, 258

Script = Callable[[list[int]], int]


class FakeVocab:
    """Token i is byte i; then BOS, EOS and END_OF_TURN."""

    n_vocab = N_VOCAB
    bos_token_id = BOS
    eos_token_id = EOS
    pad_token_id = None
    unk_token_id = None
    n_ctx_train: int | None = None
    adds_space_prefix = False
    adds_bos = False
    chat_templates: ClassVar[dict[str, str]] = {}
    eog_ids = (EOS, END_OF_TURN)

    def token_type(self, token_id: int) -> TokenType:
        return "control" if token_id >= 256 else "normal"

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

    def token_text(self, token_id: int) -> str:
        """A byte is spelled as its character of Latin-1."""
        return self.token_bytes(token_id).decode("latin-1")


# A generator for each row of logits would take most of the time of tests that make thousands.
_NOISE = np.random.RandomState(7).standard_normal(2**18).astype(np.float32)


def hashed_letter(tokens: list[int]) -> int:
    """A lower-case letter that depends on every token so far."""
    return 97 + zlib.crc32(bytes(str(tokens), "ascii")) % 26


def hashed_logits(tokens: list[int], best: int) -> Logits:
    """Logits (N_VOCAB,) that depend on every token, with ``best`` on top by a clear margin."""
    start = zlib.crc32(bytes(str(tokens), "ascii")) % (len(_NOISE) - N_VOCAB)
    logits = _NOISE[start : start + N_VOCAB].copy()
    logits[256:] -= 10
    logits[best] = 8.0
    return logits


class FakeBackend:
    """Implements ``engine.backend.Backend``; ``script`` gives the likeliest next token.

    budget: the most tokens that all sequences together may hold; None for no limit.
    """

    n_vocab = N_VOCAB

    def __init__(
        self,
        script: Script = hashed_letter,
        *,
        n_batch: int = 16,
        budget: int | None = None,
        can_truncate: bool = True,
    ) -> None:
        self.vocab = FakeVocab()
        self.n_cache_resets = 0
        self.can_truncate = can_truncate
        self.can_share_cells = can_truncate
        self.n_cells: int | None = None
        self.n_batch = n_batch
        self.budget = budget
        self.n_ctx_seq = 0
        self.script = script
        self.kv: dict[int, list[int]] = {}
        self.cells: dict[int, list[int]] = {}
        self._cell_numbers = count()
        self.calls: list[tuple[str, Any]] = []
        self.on_decode: Callable[[], None] = lambda: None
        self.path = Path("fake.gguf")
        self.closed = False
        self.is_forked = False
        self.not_saved_because: str | None = None
        self.sampling_defaults: dict[str, Any] = {}
        self.sizes: dict[str, int | str] = {"model_type": "fake", "max_position_embeddings": 512}
        self.weights = (Weight("output.weight", (N_VOCAB, 4), "F32"),)
        self.state_identity = {"model": "fake"}
        self.refuses_state: Callable[[list[int]], bool] = lambda _: False
        self.pass_costs = PassCosts()
        self.adapts = False
        self.pass_threads = self.idle_cpus = 1
        self.flash_attention = "off"
        self.attention_obstacle: str | None = None
        # What ``suits`` chooses; "off" for results that are compared.
        self.wants: Callable[[Work], str] = lambda _: "off"
        self._next_attention = "off"
        self._seen: tuple[Batch, list[int], list[int]] | None = None
        self._buffer = np.empty((0, N_VOCAB), np.float32)

    @property
    def n_slots(self) -> int:
        return len(self.kv)

    def check_usable(self) -> None:
        if self.closed:
            raise ClosedError(CLOSED)

    def close(self) -> None:
        self.closed = True

    def with_own_context(self, max_sequences: int) -> FakeBackend:
        return FakeBackend(self.script, n_batch=self.n_batch, budget=self.budget)

    def run(self, call: Callable[[], Any]) -> Any:
        self.check_usable()
        return call()

    def leave(self) -> None:
        """Nothing is freed."""

    def n_slots_that_fit(self, n_tokens: int) -> int:
        return 1000 if self.budget is None else self.budget // n_tokens

    def cells_fit(self, n_cells: int) -> bool:
        return self.budget is None or n_cells <= self.budget

    def suits(self, work: Work | None, should_stop: Callable[[], bool] | None = None) -> bool:
        assert self.adapts, "what never changes need not be asked for"
        self.calls.append(("suits", work))
        self._next_attention = "off" if work is None else self.wants(work)
        return not self.kv or self._next_attention == self.flash_attention

    def reserve(
        self,
        n_slots: int,
        n_tokens: int,
        keep: Sequence[int] = (),
        *,
        n_cells: int | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self.flash_attention = self._next_attention
        if n_cells is None:
            assert n_slots <= self.n_slots_that_fit(n_tokens)
        else:
            assert self.can_share_cells
            assert self.cells_fit(n_cells)
        self.n_cells = n_cells
        self.calls.append(("reserve", (n_slots, n_tokens)))
        kept = [self.kv[seq_id] for seq_id in keep]
        self.n_ctx_seq = n_tokens if n_cells is None else n_cells
        assert all(len(tokens) <= self.n_ctx_seq for tokens in kept)
        self.kv = {seq_id: kept[seq_id] if seq_id < len(kept) else [] for seq_id in range(n_slots)}
        self.cells = {seq_id: self._new_cells(len(tokens)) for seq_id, tokens in self.kv.items()}

    def decode(self, batch: Batch, should_stop: Callable[[], bool] | None = None) -> Logits:
        assert 0 < len(batch.token_ids) <= self.n_batch
        assert np.all(np.diff(batch.seq_ids) >= 0), "sequences must come in rising seq_id"
        self._check_reuse(batch)
        self.calls.append(("decode", batch.seq_ids.tolist()))
        self.on_decode()
        rows = []
        for token, position, seq_id, wanted in zip(
            batch.token_ids.tolist(),
            batch.positions.tolist(),
            batch.seq_ids.tolist(),
            np.isin(np.arange(len(batch.token_ids)), batch.output_rows).tolist(),
            strict=True,
        ):
            assert position == len(self.kv[seq_id]), "positions must follow what the sequence holds"
            assert position < self.n_ctx_seq, "a sequence must have room"
            self.kv[seq_id].append(token)
            self.cells[seq_id].append(next(self._cell_numbers))
            if wanted:
                rows.append(hashed_logits(self.kv[seq_id], self.script(self.kv[seq_id])))
        self._check_cells()
        # As in llama.cpp, rows of an earlier call are overwritten.
        self._buffer[:] = np.nan
        self._buffer = np.array(rows, np.float32).reshape(len(rows), N_VOCAB)
        return self._buffer

    def _check_reuse(self, batch: Batch) -> None:
        """Of a batch that comes again, sequences and outputs are as they were."""
        held = (batch, batch.seq_ids.tolist(), batch.output_rows.tolist())
        if self._seen is not None and batch is self._seen[0]:
            assert held == self._seen
        self._seen = held

    def _check_cells(self) -> None:
        """A copy takes no cells of its own."""
        if self.n_cells is not None:
            taken = {cell for cells in self.cells.values() for cell in cells}
            assert len(taken) <= self.n_cells, "there must be a cell for each token"

    def _new_cells(self, n: int) -> list[int]:
        return [next(self._cell_numbers) for _ in range(n)]

    def forget(self) -> None:
        self.kv = {seq_id: [] for seq_id in self.kv}
        self.cells = {seq_id: [] for seq_id in self.kv}

    def release(self) -> None:
        self.calls.append(("release", None))
        self.lose_all()
        self.kv, self.cells, self.n_ctx_seq = {}, {}, 0

    def lose_all(self) -> None:
        """What llama.cpp does where nothing that the KV cache held can be trusted any more."""
        self.forget()
        self.n_cache_resets += 1

    def kv_truncate(self, seq_id: int, n_tokens: int) -> bool:
        self.calls.append(("kv_truncate", (seq_id, n_tokens)))
        if 0 < n_tokens < len(self.kv[seq_id]) and not self.can_truncate:
            return False
        self.kv[seq_id] = self.kv[seq_id][:n_tokens]
        self.cells[seq_id] = self.cells[seq_id][:n_tokens]
        return True

    def kv_copy(self, source: int, target: int) -> None:
        assert source != target
        self.calls.append(("kv_copy", (source, target)))
        self.kv[target] = list(self.kv[source])
        self.cells[target] = list(self.cells[source])

    def flush_copies(self) -> None:
        """Copies are done at once here."""

    def kv_state(self, seq_id: int) -> State:
        self.calls.append(("kv_state", seq_id))
        return np.array(self.kv[seq_id], np.int32).view(np.uint8)

    def set_kv_state(self, seq_id: int, saved: State, n_tokens: int) -> bool:
        self.calls.append(("set_kv_state", seq_id))
        tokens = saved.copy().view(np.int32).tolist()
        assert n_tokens == len(tokens)
        assert n_tokens <= self.n_ctx_seq, "a sequence must have room"
        refused = self.refuses_state(tokens)
        self.kv[seq_id] = [] if refused else tokens
        self.cells[seq_id] = self._new_cells(len(self.kv[seq_id]))
        return not refused

    def count(self, name: str) -> int:
        """How many calls of that name there were."""
        return sum(called == name for called, _ in self.calls)

    @property
    def n_decoded(self) -> int:
        """Tokens that went through ``decode``."""
        return sum(len(slots) for name, slots in self.calls if name == "decode")


class LateBackend(FakeBackend):
    """A FakeBackend whose forward pass number ``late_call`` takes until it is stopped."""

    late_call = 3

    def decode(self, batch: Batch, should_stop: Callable[[], bool] | None = None) -> Logits:
        if self.count("decode") + 1 == self.late_call:
            self.calls.append(("decode", []))
            assert should_stop is not None
            while not should_stop():
                pass
            raise PassStopped
        return super().decode(batch, should_stop)


class SlowBackend(FakeBackend):
    """A FakeBackend that makes its KV cache number ``late_call`` until it is stopped.

    ``on_late()`` is called while it does.
    """

    late_call = 1

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.on_late: Callable[[], object] = lambda: None

    def reserve(
        self,
        n_slots: int,
        n_tokens: int,
        keep: Sequence[int] = (),
        *,
        n_cells: int | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        if self.count("reserve") + 1 == self.late_call:
            self.calls.append(("reserve", None))
            self.kv, self.cells, self.n_ctx_seq = {}, {}, 0
            self.on_late()
            assert should_stop is not None
            while not should_stop():
                pass
            raise PassStopped
        super().reserve(n_slots, n_tokens, keep, n_cells=n_cells, should_stop=should_stop)


class FakeModel(LocalModel):
    """A LocalModel on a FakeBackend, which tests read and set as ``backend``."""

    def __init__(self, backend: FakeBackend, config: ModelConfig) -> None:
        super().__init__(backend, config)
        self.backend = backend


def fake_model(
    script: Script = hashed_letter,
    *,
    n_ctx: int = 512,
    max_sequences: int = 4,
    deterministic: bool = False,
    backend: FakeBackend | None = None,
    **options: Any,
) -> FakeModel:
    """A model on ``backend``, or on a new FakeBackend with ``script`` and ``options``."""
    config = ModelConfig(n_ctx=n_ctx, max_sequences=max_sequences, deterministic=deterministic)
    return FakeModel(backend or FakeBackend(script, **options), config)


def engine_of(model: LocalModel) -> Engine:
    """The engine of a model, between two steps; for what no call shows."""
    return model._driver._engine


def run_request(
    sequences: list[EngineSequence],
    strategy: DecodingStrategy,
    backend: FakeBackend | None = None,
) -> FakeBackend:
    """Run a request to its end; FakeBackend checks every position and cell on the way."""
    backend = backend or FakeBackend()
    engine = Engine(backend, 8)
    request = Request(sequences, strategy=strategy)
    engine.submit(request)
    while not request.done:
        engine.step()
    assert request.error is None
    assert engine.idle
    return backend


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


_BYTES = tuple(bytes([i]) for i in range(256))


@functools.cache
def _ids_by_first_byte(pieces: tuple[bytes, ...]) -> dict[bytes, list[int]]:
    found: dict[bytes, list[int]] = {}
    for token_id, piece in enumerate(pieces):
        if piece:
            found.setdefault(piece[:1], []).append(token_id)
    return found


class ChoiceMatcher:
    """Implements ``engine.constraint.Matcher``: the text is one of ``choices``.

    pieces: the bytes of each token of N_VOCAB or fewer; token i is byte i without them.
    """

    is_free = False

    def __init__(self, choices: Sequence[bytes], pieces: Sequence[bytes] = ()) -> None:
        self.choices = [bytes(each) for each in choices]
        self.pieces = tuple(pieces) or _BYTES
        self.token_ids: list[int] = []

    @property
    def text(self) -> bytes:
        return b"".join(self.pieces[token_id] for token_id in self.token_ids)

    @property
    def _left(self) -> list[bytes]:
        text = self.text
        return [each[len(text) :] for each in self.choices if each.startswith(text)]

    def accept(self, token_id: int) -> None:
        if not self.mask()[token_id // 8] & 1 << token_id % 8:
            raise ValueError(f"{token_id} may not follow {self.text!r}")
        self.token_ids.append(token_id)

    def rollback(self, n_tokens: int) -> None:
        assert n_tokens <= len(self.token_ids)
        del self.token_ids[len(self.token_ids) - n_tokens :]

    def mask(self) -> np.ndarray:
        allowed = np.zeros(N_VOCAB, np.bool_)
        for rest in self._left:
            for token_id in _ids_by_first_byte(self.pieces).get(rest[:1], ()):
                allowed[token_id] |= rest.startswith(self.pieces[token_id])
        return np.packbits(allowed, bitorder="little")

    def forced_tokens(self) -> list[int]:
        trial, forced = self.fork(), list[int]()
        while not trial.may_end and len({each[0] for each in trial._left}) == 1:
            forced.append(self.pieces.index(trial._left[0][:1]))
            trial.accept(forced[-1])
        return forced

    def n_allowed(self, token_ids: Sequence[int]) -> int:
        trial = self.fork()
        for index, token_id in enumerate(token_ids):
            try:
                trial.accept(token_id)
            except ValueError:
                return index
        return len(token_ids)

    @property
    def may_end(self) -> bool:
        return b"" in self._left

    @property
    def is_done(self) -> bool:
        return self._left == [b""]

    def fork(self) -> ChoiceMatcher:
        twin = type(self)(self.choices, self.pieces)
        twin.token_ids = list(self.token_ids)
        return twin


class ChoiceConstraint:
    """Implements ``generation.constraining.Constraint``; ``parse`` gives the text in a list."""

    def __init__(self, choices: Sequence[str]) -> None:
        self.choices = [each.encode() for each in choices]

    def matcher(self) -> ChoiceMatcher:
        return ChoiceMatcher(self.choices)

    def parse(self, text: str) -> list[str]:
        return [text]


def compile_choices(name: str, value: Any) -> ChoiceConstraint:
    """Compile the option ``choices``; of ``regex``, the parts between bars."""
    return ChoiceConstraint(value.split("|") if name == "regex" else value)


def constrain(
    model: LocalModel, masks_of: MasksOf = masks_one_by_one, *, runs_ahead: bool = True
) -> None:
    """Let a model compile its constraints with ``compile_choices``."""
    model._requests.constraints = Constraints(
        compile_choices, masks_of, {BOS, EOS, END_OF_TURN}, runs_ahead=runs_ahead
    )


def constraint(
    choices: Sequence[bytes], *, forces: bool = True, worker: MaskWorker | None = None
) -> ConstraintTracker:
    """Return a tracker that allows these texts."""
    return ConstraintTracker(
        ChoiceMatcher(choices),
        "choices",
        ends={EOS},
        never={BOS, END_OF_TURN},
        worker=worker,
        forces=forces,
    )
