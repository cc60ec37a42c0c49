"""Recorders follow what is taken back and copied."""

from __future__ import annotations

import numpy as np
import pytest

from localgen.engine.recorders import LogprobRecorder, StepRecorder
from localgen.errors import DecodeError

STEPS = [np.array([i, 0.0, 1.0], np.float32) for i in range(4)]


def recorded(recorder: LogprobRecorder | StepRecorder, numbers: list[int]) -> None:
    for number in numbers:
        recorder.record(STEPS[number], lambda number=number: -STEPS[number], 1)  # type: ignore[misc]


@pytest.mark.parametrize("n_back", [0, 1, 2, 3])
def test_logprobs_that_are_taken_back(n_back: int) -> None:
    """What is left is what was recorded first; a copy made before keeps all."""
    recorder, expected = LogprobRecorder(2), LogprobRecorder(2)
    recorded(recorder, [0, 1, 2])
    recorded(expected, [0, 1, 2][: 3 - n_back])
    clone = recorder.copy()
    recorder.rollback(n_back)
    assert recorder.steps == expected.steps
    assert len(clone.steps) == 3


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_logprobs_of_a_row_that_is_not_finite(bad: float) -> None:
    """A token that was suppressed may be the one that is not finite: NaN is no result."""
    row = np.array([1.0, bad, 2.0], np.float32)
    with pytest.raises(DecodeError, match="no log-probabilities"):
        LogprobRecorder(1).record(row, lambda: row, 2)
    recorder = LogprobRecorder(1)
    recorder.record(np.array([1.0, -np.inf, 1.0], np.float32), lambda: row, 2)
    assert recorder.steps[0][1] == pytest.approx(-np.log(2))


@pytest.mark.parametrize("n_back", [0, 1, 2, 3])
@pytest.mark.parametrize("keep_scores", [True, False])
def test_steps_that_are_taken_back(n_back: int, keep_scores: bool) -> None:
    """Of logits, and of scores if they are kept; a copy goes on alone."""
    recorder = StepRecorder(keep_logits=True, keep_scores=keep_scores)
    recorded(recorder, [0, 1, 2])
    clone = recorder.copy()
    recorder.rollback(n_back)
    recorded(recorder, [3])
    left = [*[0, 1, 2][: 3 - n_back], 3]
    np.testing.assert_array_equal(recorder.logits, [STEPS[i] for i in left])
    scores = [-STEPS[i] for i in left] if keep_scores else []
    np.testing.assert_array_equal(recorder.scores, scores)
    recorded(clone, [3])
    np.testing.assert_array_equal(clone.logits, STEPS)
    assert len(clone.scores) == (4 if keep_scores else 0)
