"""LlamaBackend's own guards, and the settings under which it must give the same tokens."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import BackendError, ContextFullError, DecodeError, LocalModel, ModelConfig
from localgen.config import FLASH_ATTENTION, KV_TYPES
from localgen.engine.backend import Batch, PassStopped
from localgen.llama.backend import LlamaBackend
from models.make_tiny import make_llama_bpe, make_mamba
from tests.conformance.invariants import backend_of
from tests.conftest import RunChild, ask_at_every_node


@pytest.fixture
def backend(tiny_bpe_path: Path) -> Iterator[LlamaBackend]:
    """AvailableMemory for two sequences of 512 tokens, sixteen tokens a pass."""
    config = ModelConfig(n_ctx=512, n_batch=16, max_sequences=4, n_threads=1)
    backend = LlamaBackend(tiny_bpe_path, config)
    backend.reserve(2, 64)
    yield backend
    backend.close()


def one(token_id: int = 40, position: int = 0, seq_id: int = 0) -> Batch:
    """One token whose logits are wanted."""
    return many([token_id], [position], [seq_id])


def many(token_ids: list[int], positions: list[int], seq_ids: list[int]) -> Batch:
    """Tokens of which the last one's logits are wanted."""
    outputs = range(max(0, len(token_ids) - 1), len(token_ids))
    given = (token_ids, positions, seq_ids, outputs)
    return Batch(*(np.array(values, np.int32) for values in given))


BAD_BATCHES = {
    "empty": (many([], [], []), "a batch of 0 tokens"),
    "too big": (many([40] * 17, [*range(17)], [0] * 17), "17 tokens; it must be 1 to 16"),
    "negative token": (one(token_id=-1), "token id"),
    "token out of range": (one(token_id=285), "token id outside 0 to 284"),
    "huge token": (one(token_id=2**31 - 1), "token id"),
    "negative sequence": (one(seq_id=-1), "seq_id"),
    "sequence out of range": (one(seq_id=2), "seq_id outside 0 to 1"),
    "huge sequence": (one(seq_id=2**31 - 1), "seq_id"),
    "negative position": (one(position=-1), "position"),
    "position out of range": (one(position=512), "position"),
    "one of many": (many([40, -3], [0, 1], [0, 0]), "token id"),
}


@pytest.mark.parametrize("kind", BAD_BATCHES)
def test_bad_batch(kind: str, backend: LlamaBackend) -> None:
    """llama_decode would abort, write out of bounds, or lose the token; the check comes first."""
    batch, message = BAD_BATCHES[kind]
    before = backend.decode(one(41, 0, 0)).copy()
    backend.kv_truncate(0, 0)
    with pytest.raises(DecodeError, match=message):
        backend.decode(batch)
    assert np.array_equal(backend.decode(one(41, 0, 0)), before)


def test_position_with_a_gap(backend: LlamaBackend) -> None:
    """llama.cpp refuses a gap inside a sequence: that is a DecodeError, and nothing is stored."""
    backend.decode(one(40, 0, 0))
    with pytest.raises(DecodeError):
        backend.decode(one(41, 5, 0))
    backend.decode(one(41, 1, 0))


def test_batch_that_comes_again_with_a_gap(backend: LlamaBackend) -> None:
    """A batch may be filled anew; a gap is refused then too, and what is cached stays."""
    batch = many([40, 41, 42], [0, 1, 0], [0, 0, 1])
    backend.decode(batch)
    batch.positions[:] = [2, 3, 1]
    expected = backend.decode(batch).copy()
    for positions in ([5, 6, 2], [4, 5, 3], [4, 6, 2], [2, 3, 1]):
        batch.positions[:] = positions
        with pytest.raises(DecodeError):
            backend.decode(batch)
        batch.positions[:] = [4, 5, 2]
        assert np.isfinite(backend.decode(batch)).all()
        assert backend.kv_truncate(0, 4)
        assert backend.kv_truncate(1, 2)
    assert backend.kv_truncate(0, 2)
    assert backend.kv_truncate(1, 1)
    batch.positions[:] = [2, 3, 1]
    assert np.abs(backend.decode(batch) - expected).max() < 1e-3


@pytest.mark.parametrize("seq_id", [-2, -1, 2, 999])
def test_kv_calls_out_of_range(seq_id: int, backend: LlamaBackend) -> None:
    """llama_memory_seq_* aborts the process for a sequence that it does not have."""
    for call in (
        lambda: backend.kv_truncate(seq_id, 0),
        lambda: backend.kv_copy(seq_id, 0),
        lambda: backend.kv_copy(0, seq_id),
    ):
        with pytest.raises(DecodeError, match=f"seq_id {seq_id} is outside 0 to 1"):
            call()


def test_before_reserve(tiny_bpe_path: Path) -> None:
    """Without a context there is no sequence, and so nothing that C could be asked."""
    backend = LlamaBackend(tiny_bpe_path, ModelConfig(n_threads=1))
    with pytest.raises(DecodeError):
        backend.decode(one())
    with pytest.raises(DecodeError, match="no context yet"):
        backend.kv_truncate(0, 0)
    backend.close()


def test_kv_copy_onto_itself(backend: LlamaBackend) -> None:
    """A copy to the same place keeps what is there."""
    backend.decode(many([40, 60], [0, 1], [0, 0]))
    expected = backend.decode(one(70, 2, 0)).copy()
    backend.kv_truncate(0, 0)
    backend.decode(many([40, 60], [0, 1], [0, 0]))
    backend.kv_copy(0, 0)
    np.testing.assert_allclose(backend.decode(one(70, 2, 0)), expected, atol=1e-3)


def test_kv_copy(backend: LlamaBackend) -> None:
    """A copied sequence goes on as the one that it was copied from."""
    backend.decode(many([40, 60], [0, 1], [0, 0]))
    backend.kv_copy(0, 1)
    source = backend.decode(one(70, 2, 0)).copy()
    np.testing.assert_allclose(backend.decode(one(70, 2, 1)), source, atol=1e-3)


def test_context_grows(backend: LlamaBackend) -> None:
    """A context of more slots takes over what it is told to keep, and forgets all else."""
    with pytest.raises(DecodeError):
        backend.decode(one(seq_id=3))
    backend.decode(many([40, 60], [0, 1], [0, 0]))
    backend.decode(many([50, 51], [0, 1], [1, 1]))
    backend.kv_copy(1, 0)  # its data would be copied by the next pass only
    expected = backend.decode(one(70, 2, 1)).copy()
    backend.reserve(4, 64, [0])
    assert (backend.n_slots, backend.n_ctx_seq, backend.n_cache_resets) == (4, 512, 0)
    np.testing.assert_allclose(backend.decode(one(70, 2, 0)), expected, atol=1e-3)
    assert backend.decode(one(seq_id=1)).shape == (1, 285)


def test_state_of_a_slot(backend: LlamaBackend) -> None:
    """A saved slot goes on as it would have, in another slot too; damaged bytes leave it empty."""
    backend.decode(many([40, 60], [0, 1], [0, 0]))
    state = backend.kv_state(0)
    expected = backend.decode(one(70, 2, 0)).copy()
    assert backend.set_kv_state(1, state, 2)
    assert np.array_equal(backend.decode(one(70, 2, 1)), expected)
    for damaged, n_tokens in ((state[:-9], 2), (state, 3), (state[: len(state) // 2], 2)):
        assert not backend.set_kv_state(1, damaged, n_tokens)
        assert backend.decode(one(40, 0, 1)).shape == (1, 285)


def test_forget(backend: LlamaBackend) -> None:
    """After it position 0 can be written again."""
    first = backend.decode(one(40, 0, 0)).copy()
    backend.forget()
    assert np.array_equal(backend.decode(one(40, 0, 0)), first)


def test_pass_that_is_stopped(backend: LlamaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a pass is stopped, the KV cache is as before it, for every sequence in it.

    Each round stops one graph node later.
    """
    ask_at_every_node(monkeypatch)
    batch = many([40 + i for i in range(16)], [*range(10), *range(6)], [0] * 10 + [1] * 6)
    expected = backend.decode(batch).copy()
    backend.forget()
    for n_looks in range(1, 10_000):
        looks = count(1)
        try:
            logits = backend.decode(batch, lambda: next(looks) >= n_looks)  # noqa: B023
        except PassStopped:
            continue
        break
    assert n_looks > 20
    np.testing.assert_allclose(logits, expected, atol=1e-3)


def test_reserve_beyond_the_context(backend: LlamaBackend) -> None:
    """n_ctx is a promise to the user, also where C would round it up."""
    with pytest.raises(ContextFullError, match="513"):
        backend.reserve(1, 513)


def test_context_that_does_not_fit_memory(
    tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An overcommitted KV cache gets the process killed: too little memory is an error first."""
    with LocalModel.from_pretrained(tiny_bpe_path, n_ctx=512, n_threads=1) as model:
        before = model.generate([[40, 60]], max_new_tokens=4).tolist()
    monkeypatch.setattr("localgen._util.system.available_memory", lambda: 1000)
    options: dict[str, Any] = {"n_ctx": 512, "n_threads": 1}
    with (
        LocalModel.from_pretrained(tiny_bpe_path, check_memory=False, **options) as model,
        pytest.raises(BackendError, match="kv_budget"),
    ):
        model.generate([[40, 60]], max_new_tokens=4)
    monkeypatch.undo()
    with LocalModel.from_pretrained(tiny_bpe_path, **options) as model:
        assert model.generate([[40, 60]], max_new_tokens=4).tolist() == before


def test_fewer_sequences_where_memory_is_short(
    tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows take turns when the memory is for fewer of them, and give the same tokens."""
    ids = [[40 + i, 60] for i in range(6)]
    with LocalModel.from_pretrained(tiny_bpe_path, n_ctx=512, n_threads=1) as model:
        whole = model.generate(ids, max_new_tokens=4, min_new_tokens=4).tolist()
        per_sequence = backend_of(model).kv_bytes_per_token * 512
    monkeypatch.setattr("localgen._util.system.available_memory", lambda: 5 * per_sequence)
    options: dict[str, Any] = {"n_ctx": 512, "n_threads": 1, "check_memory": False}
    with LocalModel.from_pretrained(tiny_bpe_path, **options) as model:
        assert model.generate(ids, max_new_tokens=4, min_new_tokens=4).tolist() == whole
        assert backend_of(model).n_slots == 2


COMBINATIONS = """
import sys, localgen
path, kv_type, *modes = sys.argv[1:]
for mode in modes:
    options = {"kv_type": kv_type, "flash_attention": mode, "n_ctx": 512, "n_threads": 1}
    try:
        with localgen.LocalModel.from_pretrained(path, **options) as model:
            batch = [[40, 60, 70], [50, 51, 52]]
            output = model.generate(batch, max_new_tokens=4, min_new_tokens=4)
            print(mode, output.shape[1])
    except (localgen.BackendError, ValueError) as error:
        print(mode, "refused", kv_type in str(error))
"""


@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_kv_type_with_flash_attention(
    kv_type: str, tiny_bpe_path: Path, fork_child: RunChild
) -> None:
    """Each pair generates, or is refused with the type's name; some would abort or divide by 0."""
    child = fork_child(COMBINATIONS, tiny_bpe_path, kv_type, *FLASH_ATTENTION)
    assert child.returncode == 0, child.stderr
    without = "off refused True" if kv_type[0] in "qi" else "off 7"
    assert child.stdout.splitlines() == ["auto 7", "on 7", without]


PROMPT = [[3 + (7 * i) % 250 for i in range(100)]]


def eight(path: Path, ids: Any, **options: Any) -> list[list[int]]:
    """Eight greedy tokens a row from a model loaded with ``options``."""
    options = {"n_ctx": 512, "n_threads": 1, "kv_type": "f32", **options}
    with LocalModel.from_pretrained(path, **options) as model:
        return model.generate(ids, max_new_tokens=8, min_new_tokens=8).tolist()


@pytest.mark.parametrize(
    "options",
    [
        {"n_batch": 64, "max_sequences": 4},
        {"n_batch": 7, "max_sequences": 7},
        {"n_batch": 2, "max_sequences": 1},
        {"n_batch": 1, "max_sequences": 1},
        {"n_batch": 7, "max_sequences": 7, "flash_attention": "off"},
        {"n_ubatch": 5, "max_sequences": 4},
    ],
    ids=str,
)
def test_prefill_in_chunks(options: dict[str, Any], tiny_bpe_path: Path) -> None:
    """A prompt that is computed piece by piece gives the tokens of one whole pass."""
    assert eight(tiny_bpe_path, PROMPT, **options) == eight(tiny_bpe_path, PROMPT)


def test_llama_cpp_computes_n_ubatch_tokens_at_once(tiny_bpe_path: Path) -> None:
    """Also in a context for more sequences than the model was loaded for, as drafts need it."""
    config = ModelConfig(n_ctx=512, n_ubatch=8, max_sequences=8, n_threads=1)
    backend = LlamaBackend(tiny_bpe_path, config)
    larger = backend.with_own_context(12)
    sizes = []
    for owner in (backend, larger):
        owner.reserve(2, 64)
        with owner.lent_context() as context:
            sizes.append(owner._llama.llama_n_ubatch(context))
    larger.close()
    backend.close()
    assert sizes == [8, 12]


@pytest.mark.parametrize("max_sequences", [1, 2, 3])
def test_more_prompts_than_places(max_sequences: int, tiny_bpe_path: Path) -> None:
    """Rows that wait for a place get the tokens that they get alone."""
    prompts = [[3 + i, 60 + i, 70] for i in range(7)]
    together = eight(tiny_bpe_path, prompts, max_sequences=max_sequences)
    assert together == [eight(tiny_bpe_path, [ids])[0] for ids in prompts]


def test_rows_of_many_lengths(tiny_bpe_path: Path) -> None:
    """Prompts longer than a pass beside short ones, in few places: all as alone."""
    prompts = [PROMPT[0][: 1 + 13 * i] for i in range(7)]
    with LocalModel.from_pretrained(
        tiny_bpe_path, n_ctx=512, n_threads=1, kv_type="f32", n_batch=16, max_sequences=3
    ) as model:
        options: dict[str, Any] = {"max_new_tokens": 8, "min_new_tokens": 8}
        together = [c.token_ids for c in model.complete(prompts, **options)]
        alone = [model.complete([ids], **options)[0].token_ids for ids in prompts]
    assert together == alone


def test_samples_share_a_prompt(tiny_bpe_path: Path) -> None:
    """Samples of one prompt, copied from one prefill, are those of a single place."""
    options: dict[str, Any] = {
        "do_sample": True,
        "seed": 5,
        "num_return_sequences": 5,
        "max_new_tokens": 8,
    }
    outputs = []
    for max_sequences in (1, 3, 5):
        with LocalModel.from_pretrained(
            tiny_bpe_path, n_ctx=512, n_threads=1, kv_type="f32", max_sequences=max_sequences
        ) as model:
            outputs.append(model.generate(PROMPT, **options).tolist())
    assert outputs[0] == outputs[1] == outputs[2]


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_threads(n_threads: int, tiny_bpe_path: Path) -> None:
    """The number of threads, also above the CPUs there are, changes nothing."""
    ids = [[40, 60, 70]]
    assert eight(tiny_bpe_path, ids, n_threads=n_threads) == eight(tiny_bpe_path, ids)


# --- passes that fail ---


class FailingPasses:
    """llama.cpp's functions, of which llama_decode returns ``code`` and computes nothing."""

    def __init__(self, bindings: Any, code: int) -> None:
        self._bindings = bindings
        self._code = code

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bindings, name)

    def llama_decode(self, *_: Any) -> int:
        return self._code


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (1, "no room in the KV cache"),
        (-1, "the batch was refused"),
        (-2, "memory could not be allocated"),
        (-3, "the graph failed"),
        (-9, "an unknown failure"),
    ],
)
@pytest.mark.parametrize("make", [make_llama_bpe, make_mamba])
def test_pass_that_fails(code: int, meaning: str, make: Any, tmp_path: Path) -> None:
    """The error says why, and sequences go on from before it; a recurrent state may be lost."""
    make(tmp_path / "a.gguf")
    config = ModelConfig(n_ctx=64, n_batch=16, max_sequences=2, n_threads=1)
    backend = LlamaBackend(tmp_path / "a.gguf", config)
    backend.reserve(2, 64)
    expected = [backend.decode(one(41 + i, i)).copy() for i in range(2)][1]
    backend.forget()
    backend.decode(one(41, 0))
    context = backend._open_context
    bindings = context._llama
    context._llama = FailingPasses(bindings, code)
    with pytest.raises(DecodeError, match=rf"of 1 tokens returned {code} \({meaning}"):
        backend.decode(one(42, 1))
    context._llama = bindings
    is_lost = make is make_mamba and code not in (1, -1)
    assert backend.n_cache_resets == is_lost
    if is_lost:
        backend.decode(one(41, 0))
    np.testing.assert_array_equal(backend.decode(one(42, 1)), expected)
    backend.close()


def test_copy_whose_pass_fails(backend: LlamaBackend) -> None:
    """The copied data is not there, so everything counts as lost."""
    backend.decode(one())
    backend.kv_copy(0, 1)
    context = backend._open_context
    bindings = context._llama
    context._llama = FailingPasses(bindings, -3)
    backend.flush_copies()
    context._llama = bindings
    assert backend.n_cache_resets == 1
    backend.decode(one())


def test_pass_without_logits(backend: LlamaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """No address is no buffer to read."""
    monkeypatch.setattr(backend._open_context, "_get_logits", lambda _: None)
    with pytest.raises(DecodeError, match="gave no logits"):
        backend.decode(one())


@pytest.mark.parametrize("outputs", [[1, 0], [0, 0], [2], [-1]])
def test_outputs_out_of_order(outputs: list[int], backend: LlamaBackend) -> None:
    """The rows of the result would be those of other tokens."""
    arrays = (np.array(values, np.int32) for values in ([40, 41], [0, 1], [0, 0], outputs))
    with pytest.raises(DecodeError, match="output rows must be rising, within 0 to 1"):
        backend.decode(Batch(*arrays))


def test_more_sequences_than_the_budget_holds(tiny_bpe_path: Path) -> None:
    """The error has both sizes; what is there stays."""
    config = ModelConfig(n_ctx=512, n_threads=1, kv_budget=2**20)
    backend = LlamaBackend(tiny_bpe_path, config)
    n_fit = backend.n_slots_that_fit(512)
    backend.reserve(1, 512)
    backend.decode(one())
    with pytest.raises(BackendError, match=rf"{n_fit + 1} sequences of 512 tokens.*is 1 MiB"):
        backend.reserve(n_fit + 1, 512)
    backend.decode(one(position=1))
    backend.close()
