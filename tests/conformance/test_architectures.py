"""What the engine promises, on each kind of memory that llama.cpp keeps of a sequence.

A llama has a KV cache, a gemma a second one for its sliding window, a mamba one state that is
overwritten at each token and cannot be taken back, and an lfm2 such a state and a KV cache. The KV
cache is in F32, so that only the order of additions tells one way of computing from another: that
moves a logit by less than 0.005, and the prompts here are such that the best token leads by more
than 0.02 at each step.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from localgen import LocalModel, ModelConfig
from localgen.engine.backend import Batch, PassStopped
from localgen.llama.backend import LlamaBackend
from models.make_tiny import (
    make_gemma_swa,
    make_lfm2,
    make_llama_bpe,
    make_llama_spm,
    make_mamba,
)
from tests.conformance.invariants import backend_of, n_held, n_recorded
from tests.conftest import ask_at_every_node

KINDS: dict[str, Callable[[Path], None]] = {
    "llama-bpe": make_llama_bpe,
    "llama-spm": make_llama_spm,
    "gemma-swa": make_gemma_swa,
    "mamba": make_mamba,
    "lfm2": make_lfm2,
}
OPTIONS: dict[str, Any] = {"n_ctx": 512, "n_threads": 1, "kv_type": "f32"}
N_NEW = 16
CLEAR_GAP = 1e-2


def prompt(row: int, length: int) -> list[int]:
    """Byte tokens, which have the same ids in both vocabularies; another text for each row."""
    return [3 + (7 * i + 31 * row + i * i) % 250 for i in range(length)]


LONG = prompt(10, 40)  # five of gemma's windows
RAGGED = [prompt(18, 40), prompt(7, 3), prompt(13, 23), prompt(21, 1), prompt(6, 12)]


@pytest.fixture(scope="module", params=list(KINDS))
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of one architecture."""
    path = tmp_path_factory.mktemp("architectures") / f"{request.param}.gguf"
    KINDS[request.param](path)
    return path


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[LocalModel]:
    """One architecture with room for eight sequences."""
    with LocalModel.from_pretrained(path, max_sequences=8, **OPTIONS) as model:
        yield model


def greedy(model: LocalModel, prompts: list[list[int]], **options: Any) -> list[list[int]]:
    """N_NEW greedy tokens for each prompt, never the model's own end of text."""
    ends = list(model.tokenizer.eos_token_ids)
    options = {"max_new_tokens": N_NEW, "suppress_tokens": ends, **options}
    return [row.token_ids for row in model.complete(prompts, do_sample=False, **options)]


def alone(model: LocalModel, prompts: list[list[int]]) -> list[list[int]]:
    """``greedy``, each prompt in a call of its own."""
    return [greedy(model, [row])[0] for row in prompts]


@pytest.mark.parametrize("ids", [LONG, RAGGED[1]], ids=["long", "short"])
def test_greedy_is_the_loop_without_a_cache(ids: list[int], model: LocalModel) -> None:
    """Protects the text from what is kept between passes: none is kept in the other loop.

    The prompt is longer than the sliding window, or grows beyond it. A step whose two best tokens
    are all but equal says nothing.
    """
    made = greedy(model, [ids])[0]
    clear = 0
    for step in range(N_NEW):
        output = model.generate(
            [[*ids, *made[:step]]],
            max_new_tokens=1,
            suppress_tokens=list(model.tokenizer.eos_token_ids),
            return_dict_in_generate=True,
            output_scores=True,
        )
        second, best = np.sort(output.scores[0][0])[-2:]
        if best - second > CLEAR_GAP:
            clear += 1
            assert output.sequences[0, -1] == made[step], f"step {step}"
    assert len(made) == N_NEW
    assert clear >= N_NEW - 2
    assert len(set(made)) > N_NEW // 2


@pytest.mark.parametrize("max_sequences", [2, 5])
def test_ragged_batch(max_sequences: int, path: Path, model: LocalModel) -> None:
    """Protects a row from its neighbours, of other lengths, and from whoever had its slot before.

    llama.cpp cuts such a pass into parts, so that the outputs do not come in the order of the rows.
    """
    with LocalModel.from_pretrained(path, max_sequences=max_sequences, **OPTIONS) as other:
        assert greedy(other, RAGGED) == alone(model, RAGGED)


def test_chunked_prefill(path: Path, model: LocalModel) -> None:
    """Protects prompts longer than a pass: a chunk goes on from the window or state before it."""
    with LocalModel.from_pretrained(path, n_batch=8, max_sequences=2, **OPTIONS) as chunked:
        assert model.config.n_batch == 512
        assert greedy(chunked, [LONG]) == greedy(model, [LONG])
        assert greedy(chunked, RAGGED) == alone(model, RAGGED)


@pytest.mark.parametrize("max_sequences", [2, 3])
def test_samples_of_one_prompt(max_sequences: int, path: Path, model: LocalModel) -> None:
    """Protects samples that share a prefill: each goes on from a copy of its own.

    With two slots for three samples, the third computes the prompt itself.
    """
    options: dict[str, Any] = {
        "do_sample": True,
        "top_k": 0,
        "max_new_tokens": N_NEW,
        "suppress_tokens": list(model.tokenizer.eos_token_ids),
    }
    with LocalModel.from_pretrained(path, max_sequences=max_sequences, **OPTIONS) as other:
        together = other.complete([LONG], num_return_sequences=3, seed=[5, 6, 7], **options)
    assert [row.stats.n_cached > 0 for row in together][1:max_sequences] == [True] * (
        max_sequences - 1
    )
    apart = [model.complete([LONG], seed=[seed], **options)[0] for seed in (5, 6, 7)]
    assert [row.token_ids for row in together] == [row.token_ids for row in apart]
    assert len({tuple(row.token_ids) for row in apart}) == 3


def test_stream_goes_on_after_another_call(model: LocalModel) -> None:
    """Protects a stream whose memory another call has taken: it is computed again, in one pass."""
    options: dict[str, Any] = {
        "max_new_tokens": N_NEW,
        "suppress_tokens": list(model.tokenizer.eos_token_ids),
    }
    whole = model.complete([LONG], **options)[0]
    stream = model.stream(LONG, **options)
    pieces = []
    for n_pieces, piece in enumerate(stream, start=1):
        pieces.append(piece)
        if n_pieces in (1, 3, 4):
            model.complete(RAGGED[:n_pieces], max_new_tokens=3)
    assert len(pieces) > 4
    assert "".join(pieces) == whole.text
    assert stream.completion.token_ids == whole.token_ids


def test_rows_that_finish_in_the_middle(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects rows that move to another slot when one between them ends, at different steps."""
    expected = alone(model, RAGGED)
    made_by = Counter(token for row in expected for token in set(row))
    ends = [
        next(t for t in row[first:] if made_by[t] == 1 and t not in row[:first])
        for row, first in ((expected[1], 2), (expected[2], 7))
    ]
    at = [min((row.index(end) for end in ends if end in row), default=N_NEW) for row in expected]
    assert at[0] == at[3] == at[4] == N_NEW
    assert 2 <= at[1] < 7 <= at[2] < N_NEW - 2
    copies = []
    kv_copy = backend_of(model).kv_copy

    def counted(source: int, target: int) -> None:
        copies.append((source, target))
        kv_copy(source, target)

    monkeypatch.setattr(backend_of(model), "kv_copy", counted)
    made = greedy(model, RAGGED, eos_token_id=ends)
    assert copies
    assert made == [row[: last + 1] for row, last in zip(expected, at, strict=True)]


def test_score_is_the_logprobs_of_complete(model: LocalModel) -> None:
    """Protects log-probabilities: those of a pass over all tokens are those of one at a time."""
    for ids in (LONG, RAGGED[1]):
        row = model.complete([ids], max_new_tokens=N_NEW, logprobs=0)[0]
        scores = model.score([*ids, *row.token_ids])
        assert row.logprobs is not None
        expected = [step.logprob for step in row.logprobs]
        np.testing.assert_allclose(scores[len(ids) - 1 :], expected, atol=1e-2)


def clock_that_jumps(n_looks: int) -> SimpleNamespace:
    """A clock that stands still for ``n_looks`` looks at it, and then is past every deadline."""
    looks = count()
    return SimpleNamespace(perf_counter=lambda: math.inf if next(looks) >= n_looks else 0.0)


def test_call_that_its_deadline_stops(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the call after one that ran out of time inside a pass, be it the first or a later
    one of its prefill, or a decode step: it gives the text of a fresh model.
    """
    ask_at_every_node(monkeypatch)
    found = []
    with LocalModel.from_pretrained(path, n_batch=16, max_sequences=3, **OPTIONS) as model:
        expected = greedy(model, RAGGED[:3], max_new_tokens=3)
        for n_looks in range(0, 10_000, 23):
            monkeypatch.setattr("localgen.engine.engine.time", clock_that_jumps(n_looks))
            stopped = model.complete(RAGGED[:3], max_new_tokens=3, max_time=1e6)
            found.append(sum(len(row.token_ids) for row in stopped))
            if "time" not in {row.finish_reason for row in stopped}:
                break
            assert greedy(model, RAGGED[:3], max_new_tokens=3) == expected, f"{n_looks} looks"
    assert found.count(0) > 1
    assert len(set(found)) > 2


def two_sequences(first: int, lengths: tuple[int, int]) -> Batch:
    """Tokens of two sequences from position ``first``; the last of each gives logits."""
    rows = [prompt(row, first + n)[first:] for row, n in enumerate(lengths)]
    return Batch(
        np.array(rows[0] + rows[1], np.int32),
        np.array([first + i for n in lengths for i in range(n)], np.int32),
        np.repeat(np.arange(2, dtype=np.int32), lengths),
        np.cumsum(lengths, dtype=np.int32) - 1,
    )


def test_pass_that_its_deadline_stops(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the memory wherever a pass in the middle of a prefill is stopped.

    Either a sequence is as it was before the pass, or, where a state cannot be taken back, all are
    empty and ``n_cache_resets`` says so; llama.cpp's own count agrees. The same pass, or the whole
    prefill where a sequence was lost, then gives the right logits.
    """
    ask_at_every_node(monkeypatch)
    backend = LlamaBackend(path, ModelConfig(n_batch=32, max_sequences=2, **OPTIONS))
    recurrent = not backend.can_truncate
    before, batch = two_sequences(0, (10, 10)), two_sequences(10, (20, 11))
    backend.reserve(2, 64)
    backend.decode(before)
    expected = backend.decode(batch).copy()
    n_lost = []
    for n_looks in count():
        backend.forget()
        backend.decode(before)
        epoch, looks = backend.n_cache_resets, count()
        try:
            backend.decode(batch, lambda: next(looks) >= n_looks)  # noqa: B023
        except PassStopped:
            pass
        else:
            break
        lengths = [n_recorded(backend, seq_id) for seq_id in (0, 1)]
        assert [n_held(backend, seq_id) for seq_id in (0, 1)] == lengths
        assert set(lengths) <= ({0, 10} if recurrent else {10})
        assert (backend.n_cache_resets > epoch) == (0 in lengths)
        n_lost.append(lengths.count(0))
        if n_lost[-1]:
            backend.decode(before)
        np.testing.assert_allclose(backend.decode(batch), expected, atol=1e-3)
    backend.close()
    assert len(n_lost) > 20
    assert any(n_lost) == recurrent


def test_bystanders_of_a_stopped_pass(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects sequences that a stopped pass did not touch: right, or empty and counted as a reset.

    llama.cpp swaps recurrent states so that those of a pass lie side by side, and a pass that is
    stopped may have renamed them without moving them.
    """
    ask_at_every_node(monkeypatch)
    backend = LlamaBackend(path, ModelConfig(n_batch=32, max_sequences=3, **OPTIONS))

    def feed(seq_id: int, start: int, end: int) -> Batch:
        n = end - start
        tokens = np.array(prompt(seq_id, end)[start:], np.int32)
        positions, seq_ids = np.arange(start, end, dtype=np.int32), np.full(n, seq_id, np.int32)
        return Batch(tokens, positions, seq_ids, np.array([n - 1], np.int32))

    def joined(*batches: Batch) -> Batch:
        fields = ("token_ids", "positions", "seq_ids")
        joint = [np.concatenate([getattr(b, name) for b in batches]) for name in fields]
        ends = np.cumsum([len(b.token_ids) for b in batches], dtype=np.int32)
        token_ids, positions, seq_ids = joint
        return Batch(token_ids, positions, seq_ids, ends - 1)

    backend.reserve(3, 64)
    backend.decode(feed(2, 0, 6))
    expected = backend.decode(feed(2, 6, 8)).copy()
    for n_looks in count():
        backend.forget()
        for seq_id in (0, 2, 1):
            backend.decode(feed(seq_id, 0, 6))
        epoch, looks = backend.n_cache_resets, count()
        try:
            backend.decode(
                joined(feed(0, 6, 9), feed(1, 6, 9)),
                lambda: next(looks) >= n_looks,  # noqa: B023
            )
        except PassStopped:
            pass
        else:
            break
        if n_recorded(backend, 2) == 0:
            assert backend.n_cache_resets > epoch
            continue
        np.testing.assert_allclose(backend.decode(feed(2, 6, 8)), expected, atol=1e-3)
    backend.close()
