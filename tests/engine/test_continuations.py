"""Paths by hand and as a property, and what a backend has to compute for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localgen.config import SamplingOptions
from localgen.engine import continuations as module
from localgen.engine.backend import Batch, Logits
from localgen.engine.continuations import ContinuationScoring, Path, PathLogprobs, paths_of
from localgen.engine.engine import Engine
from localgen.engine.request import Request
from localgen.engine.sampling.chain import Sampler
from localgen.engine.sampling.filters import log_softmax
from localgen.engine.sequence import Sequence
from localgen.engine.uniforms import UniformStream
from tests.fakes import N_VOCAB, FakeBackend, hashed_letter, hashed_logits, run_request

Fake = TypeVar("Fake", bound=FakeBackend)

PROMPT = [*b"a prompt of some length?"]


def described(path: Path) -> tuple[list[int], list[tuple[int, int, int]]]:
    members = zip(path.indices, path.depths, path.last_ids, strict=True)
    return path.token_ids.tolist(), [(int(i), int(d), int(last)) for i, d, last in members]


def test_continuations_of_one_token_need_nothing_but_the_prompt() -> None:
    (path,) = paths_of([(5,), (7,), (6,)])
    assert path.token_ids.tolist() == []
    assert sorted(path.indices) == [0, 1, 2]


def test_what_begins_a_longer_one_is_read_off_its_path() -> None:
    found = sorted(map(described, paths_of([(1,), (1, 2), (1, 2, 3), (1, 2, 4), (9, 8)])))
    assert found == [
        ([1, 2], [(0, 0, 1), (1, 1, 2), (2, 2, 3), (3, 2, 4)]),
        ([9], [(4, 1, 8)]),
    ]


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), min_size=1, max_size=12))
def test_each_continuation_is_on_one_path_and_no_path_is_part_of_another(
    continuations: list[list[int]],
) -> None:
    given_ids = [tuple(each) for each in continuations]
    paths = paths_of(given_ids)
    spelled = {
        index: (*token_ids[:depth], last)
        for token_ids, members in map(described, paths)
        for index, depth, last in members
    }
    assert spelled == dict(enumerate(given_ids))
    assert sum(len(path.indices) for path in paths) == len(given_ids)
    tokens = [tuple(path.token_ids.tolist()) for path in paths]
    assert not any(a == b[: len(a)] for i, a in enumerate(tokens) for b in tokens[i + 1 :])
    assert not any(a == b[: len(a)] for i, b in enumerate(tokens) for a in tokens[i + 1 :])


def test_log_probabilities_add_up_along_a_path_by_hand() -> None:
    path = Path(
        np.array([1], np.int32), np.array([0, 1]), np.array([0, 1]), np.array([0, 2], np.int32)
    )
    found = PathLogprobs(path)
    halves = np.log(np.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]], np.float32))
    found.add(0, halves[:1], [0.0])
    found.add(1, halves[1:], [0.0])
    np.testing.assert_allclose(np.exp(found.sums()), [0.5, 0.25 * 0.75], rtol=1e-6)
    # Token 0 is the most likely one; 1 is not, so what follows it is not greedy either.
    assert found.greedy().tolist() == [True, False]


# --- through the engine ---


def sequences_for(paths: list[Path], prompt: list[int] = PROMPT) -> list[Sequence]:
    found = [
        Sequence(
            index=index,
            prompt_ids=np.array(prompt, np.int32),
            max_new_tokens=len(path.token_ids) + 1,
            eos_token_ids=frozenset(),
            sampler=Sampler(SamplingOptions(), N_VOCAB),
            uniform=UniformStream(0, 0),
            is_evaluated=True,
        )
        for index, path in enumerate(paths)
    ]
    for each in found[1:]:
        each.prompt_of = found[0]
    return found


def scored(texts: list[str], backend: Fake, n_together: int = 8) -> tuple[Fake, dict[int, float]]:
    paths = paths_of([tuple(text.encode()) for text in texts])
    sequences = sequences_for(paths)
    logprobs = {
        sequence: PathLogprobs(path) for sequence, path in zip(sequences, paths, strict=True)
    }
    run_request(sequences, ContinuationScoring(logprobs, N_VOCAB, n_together), backend)
    sums: dict[int, float] = {}
    for each in logprobs.values():
        sums.update(zip(each.path.indices.tolist(), each.sums().tolist(), strict=True))
    return backend, sums


def brute_force(text: str) -> float:
    tokens, total = [*PROMPT], 0.0
    for token_id in text.encode():
        logits = hashed_logits(tokens, hashed_letter(tokens))
        total += float(log_softmax(logits)[token_id])
        tokens.append(token_id)
    return total


TEXTS = ["yes", "no", "nothing at all", "y", "maybe"]


@pytest.mark.parametrize("n_batch", [4, 16, 64])
def test_sums_are_those_of_one_token_after_the_other(n_batch: int) -> None:
    _, sums = scored(TEXTS, FakeBackend(n_batch=n_batch))
    expected = {index: brute_force(text) for index, text in enumerate(TEXTS)}
    assert sums == pytest.approx(expected, abs=1e-4)


def test_the_prompt_is_computed_once_and_all_paths_in_one_pass() -> None:
    backend, _ = scored(TEXTS, FakeBackend(n_batch=64))
    n_path_tokens = len("ye") + len("nothing at al") + len("mayb")
    assert backend.n_decoded == len(PROMPT) + n_path_tokens
    assert backend.count("decode") == 2


class Watched(FakeBackend):
    """A FakeBackend that keeps how many rows of logits each pass gave."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.n_rows: list[int] = []

    def decode(self, batch: Batch, should_stop: Callable[[], bool] | None = None) -> Logits:
        self.n_rows.append(len(batch.output_rows))
        return super().decode(batch, should_stop)


def test_logits_of_a_pass_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass of n_batch rows of a large vocabulary would take gigabytes."""
    monkeypatch.setattr(module, "_LOGIT_BYTES", 4 * N_VOCAB * 6)
    backend, sums = scored(TEXTS, Watched(n_batch=64))
    assert sums == pytest.approx({i: brute_force(text) for i, text in enumerate(TEXTS)}, abs=1e-4)
    assert max(backend.n_rows) == 6


class Forgetful(FakeBackend):
    """A FakeBackend that loses all KV after its passes 4 and 6."""

    def decode(self, batch: Batch, should_stop: Callable[[], bool] | None = None) -> Logits:
        logits = super().decode(batch, should_stop)
        if self.count("decode") in (4, 6):
            self.lose_all()
        return logits


def test_what_the_kv_cache_loses_is_computed_again() -> None:
    """Sums must not miss the rows of tokens that were in the cache before."""
    backend, sums = scored(TEXTS, Forgetful(n_batch=8))
    assert backend.n_cache_resets == 2
    assert sums == pytest.approx({i: brute_force(text) for i, text in enumerate(TEXTS)}, abs=1e-4)


def run(engine: Engine, request: Request) -> None:
    while not request.done:
        engine.step()


class Failing(FakeBackend):
    """A FakeBackend whose fourth pass fails in a way after which everything starts over."""

    def decode(self, batch: Batch, should_stop: Callable[[], bool] | None = None) -> Logits:
        if self.count("decode") == 3:
            self.calls.append(("decode", []))
            raise RuntimeError("the bus fell off")
        return super().decode(batch, should_stop)


def test_rows_that_are_wanted_are_never_copied_from_others() -> None:
    """After a start from scratch, paths that begin alike are in the KV cache beyond the prompt."""
    texts = [f"the same beginning of {letter}.." for letter in "abc"]
    paths = paths_of([tuple(text.encode()) for text in texts])
    sequences = sequences_for(paths)
    logprobs = dict(zip(sequences, map(PathLogprobs, paths), strict=True))
    engine = Engine(Failing(n_batch=16), 8)
    request = Request(sequences, strategy=ContinuationScoring(logprobs, N_VOCAB, 8))
    engine.submit(request)
    with pytest.raises(RuntimeError, match="bus"):
        run(engine, request)
    run(engine, request)
    for text, each in zip(texts, logprobs.values(), strict=True):
        assert each.sums().tolist() == pytest.approx([brute_force(text)], abs=1e-3)
