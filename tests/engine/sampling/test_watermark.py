"""The watermark's green tokens: torch's own permutations, transformers' own marks, and by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen.config import SamplingOptions, WatermarkingConfig
from localgen.engine.recorders import StepRecorder
from localgen.engine.sampling.chain import Sampler
from localgen.engine.sampling.filters import log_softmax
from localgen.engine.sampling.watermark import (
    Watermark,
    first_of_permutation,
    highest,
    is_among_first,
)
from localgen.engine.sequence import Sequence
from localgen.engine.uniforms import UniformStream

RECORDED = json.loads((Path(__file__).parents[2] / "real" / "watermarks.json").read_text())
N_VOCAB = 300


def row(number: int) -> tuple[Any, Any]:
    """The tokens and logits that make_watermarks.py recorded."""
    random = np.random.RandomState(number)
    tokens = random.randint(0, N_VOCAB, 6).astype(np.int32)
    return tokens, random.standard_normal(N_VOCAB).astype(np.float32)


@pytest.mark.parametrize("each", RECORDED["permutations"], ids=lambda e: f"{e['n']}-{e['seed']}")
def test_torchs_permutations(each: dict[str, Any]) -> None:
    found = first_of_permutation(each["n"], each["n"], each["seed"])
    assert found[:8].tolist() == each["first"]
    assert (found * np.arange(each["n"])).sum() == each["weighted_sum"]


@pytest.mark.parametrize("k", [0, 1, 5, 299, 300])
def test_the_first_of_a_permutation(k: int) -> None:
    """However many are taken, they are the first of the same permutation."""
    for seed in range(20):
        whole = first_of_permutation(300, 300, seed)
        assert sorted(whole.tolist()) == list(range(300))
        assert first_of_permutation(300, k, seed).tolist() == whole[:k].tolist()


@pytest.mark.parametrize("k", [0, 1, 5, 150, 299, 300])
def test_whether_one_is_among_the_first(k: int) -> None:
    """The same as looking it up, for every item."""
    for seed in range(4):
        first = set(first_of_permutation(300, k, seed).tolist())
        found = [is_among_first(item, 300, k, seed) for item in range(300)]
        assert found == [item in first for item in range(300)]


@pytest.mark.parametrize("n", [1, 3, 40, 99])
def test_the_highest_scores(n: int) -> None:
    """Of equal scores the first comes first, as in a stable sort of all; NaN is last."""
    random = np.random.RandomState(n)
    for _ in range(20):
        scores = random.randint(-3, 4, 50).astype(np.float32)
        scores[random.randint(0, 50, 6)] = np.array([np.nan, np.nan, *[-np.inf] * 2, *[np.inf] * 2])
        assert highest(scores, n).tolist() == np.argsort(-scores, kind="stable")[:n].tolist()


def test_torch_itself() -> None:
    torch = pytest.importorskip("torch")
    for seed in range(50):
        expected = torch.randperm(1000, generator=torch.Generator().manual_seed(seed)).tolist()
        assert first_of_permutation(1000, 250, seed).tolist() == expected[:250]


@pytest.mark.parametrize("each", RECORDED["marks"])
def test_transformers_marks(each: dict[str, Any]) -> None:
    """The same logits are raised, by the bias."""
    config = WatermarkingConfig(**each["config"])
    tokens, scores = row(each["number"])
    before = scores.copy()
    marked = Watermark(config, N_VOCAB).applied(scores, tokens)
    assert np.flatnonzero(marked != scores).tolist() == each["raised"]
    expected = scores[each["raised"]] + np.float32(config.bias)
    assert marked[each["raised"]].tolist() == expected.tolist()
    assert scores.tolist() == before.tolist()


def test_fewer_tokens_than_the_context() -> None:
    """Nothing is marked, as in transformers."""
    tokens, scores = row(0)
    mark = Watermark(WatermarkingConfig(context_width=7), N_VOCAB)
    assert mark.applied(scores, tokens) is scores


def chosen(**options: Any) -> tuple[int, Any]:
    """The token that a sampler takes after row 1, and the scores that it records."""
    tokens, scores = row(1)
    recorder = StepRecorder(keep_logits=True, keep_scores=True)
    sequence = Sequence(
        index=0,
        prompt_ids=tokens,
        max_new_tokens=2,
        eos_token_ids=frozenset(),
        sampler=Sampler(SamplingOptions(**options), N_VOCAB),
        uniform=UniformStream(3, 0),
        recorders=(recorder,),
    )
    token_id = sequence.sampler.sample(scores, sequence)
    assert recorder.logits[0].tolist() == row(1)[1].tolist(), "the model's own"
    return token_id, recorder.scores[0]


def test_greedy() -> None:
    config = WatermarkingConfig(bias=3.0)
    tokens, scores = row(1)
    marked = Watermark(config, N_VOCAB).applied(scores, tokens)
    token_id, recorded = chosen(watermarking_config=config)
    assert token_id == marked.argmax() != scores.argmax()
    assert recorded.tolist() == marked.tolist()


@pytest.mark.parametrize(
    "options", [{"top_k": 20}, {"top_k": 0}, {"top_k": 0, "typical_p": 0.8}, {"min_p": 0.1}]
)
@pytest.mark.parametrize("scheme", ["lefthash", "selfhash"])
def test_sampling_marks_what_the_filters_left(options: dict[str, Any], scheme: str) -> None:
    """A removed token stays removed; the draw is by the marked scores."""
    config: dict[str, Any] = {"seeding_scheme": scheme, "bias": 1.5}
    sampled = {"do_sample": True, "temperature": 0.7, **options}
    _, plain = chosen(**sampled)
    token_id, recorded = chosen(**sampled, watermarking_config=config)
    expected = Watermark(WatermarkingConfig(**config), N_VOCAB).applied(plain, row(1)[0])
    assert recorded.tolist() == expected.tolist()
    kept = np.flatnonzero(expected > -np.inf)
    cumsum = np.exp(log_softmax(expected[kept]).astype(float)).cumsum()
    assert token_id == kept[np.searchsorted(cumsum, UniformStream(3, 0)())]


@pytest.mark.parametrize("do_sample", [False, True])
def test_rows_of_beams(do_sample: bool) -> None:
    """What a beam search gets of a row is marked as what one sequence draws from."""
    tokens, scores = row(1)
    options: dict[str, Any] = {"do_sample": do_sample, "watermarking_config": {}, "top_k": 0}
    sampler = Sampler(SamplingOptions(**options), N_VOCAB)
    sequence = Sequence(
        index=0,
        prompt_ids=tokens,
        max_new_tokens=2,
        eos_token_ids=frozenset(),
        sampler=sampler,
        uniform=UniformStream(3, 0),
    )
    assert sampler.edits(sequence)
    expected = Watermark(WatermarkingConfig(), N_VOCAB).applied(scores, tokens)
    found = sampler.kept(scores, sequence)[1] if do_sample else sampler.marked(scores, sequence)
    assert found.tolist() == expected.tolist()


def test_configs_of_any_kind() -> None:
    """localgen's, a dict, or an object of another program with the same attributes."""

    class Other:
        def __init__(self) -> None:
            self.bias, self.context_width = 1.0, 2

    ours = WatermarkingConfig(bias=1.0, context_width=2)
    given: Any
    for given in (ours, {"bias": 1, "context_width": 2}, Other()):
        assert SamplingOptions(watermarking_config=given).watermarking_config == ours
    given = {}
    assert SamplingOptions(watermarking_config=given).watermarking_config == WatermarkingConfig()
    assert ours.to_dict()["hashing_key"] == 15485863


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"greenlist_ratio": 1.0}, "greenlist_ratio must be a number between 0 and 1, exclusively"),
        ({"seeding_scheme": "righthash"}, "seeding_scheme must be one of lefthash, selfhash"),
        ({"context_width": 0}, "context_width must be between 1"),
        ({"hashing_key": -1}, "hashing_key must be between 0"),
        ({"bias": float("inf")}, "bias must be a number between"),
        ({"biass": 1.0}, "must be a WatermarkingConfig, or a dict of greenlist_ratio, bias,"),
        (True, "must be a WatermarkingConfig, or a dict"),
        ({"ngram_len": 5, "keys": [1]}, "localgen has no SynthID watermark, whose detector"),
    ],
)
def test_bad_configs(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingOptions(watermarking_config=value)  # type: ignore[arg-type]
