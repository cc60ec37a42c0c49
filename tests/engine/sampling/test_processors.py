"""All processors together: against what transformers made of known rows, and their order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localgen.config import SamplingOptions
from localgen.engine.recorders import StepRecorder
from localgen.engine.sampling import processors
from localgen.engine.sequence import Sequence
from localgen.engine.trackers import Mask
from tests.engine.sampling.sequences import processed, row, sequence_after

RECORDED = json.loads((Path(__file__).parents[2] / "real" / "processors.json").read_text())
N_VOCAB, EOS = 32, (2, 7)


def test_defaults_need_no_processor():
    """With the default options a row of logits is used as the model gave it."""
    assert processors.make_processors(SamplingOptions()) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, False),
        ({"repetition_penalty": 1.5}, True),
        ({"presence_penalty": 1.5}, True),
        ({"repetition_penalty": 1.5, "min_length": 3}, False),
        ({"encoder_repetition_penalty": 1.5}, False),
    ],
)
def test_only_penalizes(options, expected):
    """The short way of sampling is for penalties of seen tokens alone."""
    assert processors.only_penalizes(SamplingOptions(**options)) is expected
    assert not processors.only_penalizes(SamplingOptions(**options), [lambda _ids, row: row])


def test_masks_remove_what_one_of_them_forbids():
    logits = row(1.0, 2.0, 3.0)
    masks = [np.array([True, True, False]), np.array([False, True, True])]
    processors.apply_masks(logits, masks)
    assert logits.tolist() == [-np.inf, 2.0, -np.inf]


class Only:
    """A tracker that allows one token."""

    stops = False

    def __init__(self, token_id: int) -> None:
        self.allowed = np.arange(3) == token_id

    def accept(self, token_id: int) -> None:
        """Every token is followed by the same one."""

    def rollback(self, n_tokens: int) -> None:
        """Nor did anything change."""

    def mask(self) -> Mask:
        return self.allowed

    def copy(self) -> Only:
        return self


@pytest.mark.parametrize(
    "options",
    [
        {"prefix_allowed_tokens_fn": lambda _id, _ids: [1]},
        {"forced_eos_token_id": 1},
        {"suppress_tokens": [0], "remove_invalid_values": True},
    ],
)
def test_masks_hold_whatever_processors_give_back(options):
    """Forced tokens and repaired scores are no way around a constraint."""
    sequence = sequence_after([2], n_most=1, n_vocab=3, **options)
    sequence.trackers += (Only(0),)
    with pytest.raises(ValueError, match=r"sequence 0: .* left no token"):
        sequence.sampler.sample(row(1, 2, 3), sequence)
    sequence = sequence_after([2], n_vocab=3, remove_invalid_values=True)
    sequence.trackers += (Only(0),)
    assert sequence.sampler.sample(row(1, 2, 3), sequence) == 0


def test_remove_invalid_values():
    """NaN becomes 0, what is infinite the largest and the lowest number."""
    logits = row(1, np.nan, np.inf, -np.inf)
    largest = np.finfo(np.float32).max
    finite = processed(logits, sequence_after([0]), remove_invalid_values=True)
    assert finite.tolist() == [1, 0, largest, -largest]


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "temperature": 0.1}])
def test_a_row_without_a_number_is_sampled(options):
    """What remove_invalid_values is for: the model's row is no reason to fail."""
    for logits in (row(np.nan, np.nan), row(-np.inf, -np.inf), row(np.inf, np.nan)):
        sequence = sequence_after([0], n_vocab=2, remove_invalid_values=True, **options)
        assert sequence.sampler.sample(logits, sequence) in (0, 1)


def test_a_processor_that_gives_only_the_lowest_numbers():
    """As transformers' InfNanRemoveLogitsProcessor does of a row that has nothing left."""
    lowest = np.full((2, 2), np.finfo(np.float32).min)
    lowest[1, 1] = 5
    scores = processors.checked_scores(lowest, np.zeros((2, 2), np.float32))
    assert scores.tolist() == [[lowest[0, 0]] * 2, [-np.inf, 5]]


# --- against transformers ---


def recorded_scores(sequence: Sequence, logits: np.ndarray) -> np.ndarray:
    """What ``output_scores`` shows of one step."""
    recorder = StepRecorder(keep_logits=False, keep_scores=True)
    sequence.recorders = (recorder,)
    sequence.sampler.sample(logits, sequence)
    return recorder.scores[0]


def row_of(kind: str) -> np.ndarray:
    """The rows of make_processors.py."""
    seed = {"plain": 0, "edges": 1, "invalid": 2}[kind]
    logits = (np.random.RandomState(seed).standard_normal(N_VOCAB) * 4).astype(np.float32)
    if kind == "edges":
        logits[[0, 3, 9]], logits[[2, 11]] = -np.inf, 0.0
        logits[5], logits[12] = 1e20, -1e20
    if kind == "invalid":
        logits[[4, 17]], logits[6], logits[[2, 8]] = np.nan, np.inf, -np.inf
    return logits


def ours(options: dict[str, Any]) -> dict[str, Any]:
    """A recorded case's options as localgen's."""
    options = {"do_sample": False, **options}
    if (allowed := options.pop("allowed", None)) is not None:
        options["prefix_allowed_tokens_fn"] = lambda _batch_id, _input_ids: allowed
    return options


def test_every_recorded_case_of_transformers():
    """Its own processors, in its own order, ran on these rows: ours give the same scores."""
    assert len(RECORDED["cases"]) > 450
    seen = set()
    for case in RECORDED["cases"]:
        prompt, new, n_most = RECORDED["histories"][case["history"]]
        options = ours(case["options"])
        seen |= {*options}
        sequence = sequence_after(prompt, new, n_most=n_most, eos=EOS, n_vocab=N_VOCAB, **options)
        expected = row_of(case["row"])
        scores = recorded_scores(sequence, expected.copy())
        for token_id, value in case["changed"]:
            expected[token_id] = float(value)
        np.testing.assert_allclose(scores, expected, rtol=2e-6, err_msg=str(case))
    made = [make.__name__.lstrip("_") for make in processors._MAKERS]
    # guidance_scale takes two sequences: test_guidance.py.
    assert {*made} - {"token_penalties", "guidance_scale"} <= seen


# --- histories ---

TOKENS = st.integers(0, N_VOCAB - 1)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "encoder_repetition_penalty": st.sampled_from([0.5, 2.0]),
        "repetition_penalty": st.sampled_from([0.5, 2.0]),
        "presence_penalty": st.just(0.5),
        "no_repeat_ngram_size": st.integers(1, 3),
        "encoder_no_repeat_ngram_size": st.integers(1, 3),
        "sequence_bias": st.just({(5,): 1.0, (5, 6): 2.0}),
        "bad_words_ids": st.just([[5, 4]]),
        "min_length": st.integers(1, 9),
        "min_new_tokens": st.integers(0, 5),
        "begin_suppress_tokens": st.just([1, 2]),
        "forced_bos_token_id": TOKENS,
        "forced_eos_token_id": TOKENS,
        "exponential_decay_length_penalty": st.just((1, 1.5)),
        "prefix_allowed_tokens_fn": st.just(lambda _id, ids: sorted({1, 2, *ids.tolist()})),
        "remove_invalid_values": st.just(True),
    },
)


@hypothesis.settings(max_examples=60)
@given(
    OPTIONS,
    st.lists(TOKENS, min_size=1, max_size=4),
    st.lists(TOKENS, max_size=4),
    st.lists(TOKENS, min_size=1, max_size=4),
)
def test_only_the_tokens_count(options, prompt, new, wrong):
    """A sequence that took tokens back, and a fork of one, have the scores of a new sequence."""
    logits = row_of("plain")
    # Few tokens, so that options repeat something.
    prompt, new, wrong = ([3 + token % 4 for token in ids] for ids in (prompt, new, wrong))
    expected = processed(logits, sequence_after(prompt, new, **options), **options)
    gone = sequence_after(prompt, new, **options)
    early = gone.fork(1)
    for token_id in wrong:
        gone.accept(token_id)
    late = gone.fork(2)
    for sequence in (gone, late):
        sequence.rollback(len(wrong))
    for sequence in (gone, late, early):
        np.testing.assert_array_equal(processed(logits, sequence, **options), expected)
