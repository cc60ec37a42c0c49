"""What calls return, as programs for transformers read it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from tests.fakes import EOS, fake_model, hashed_letter


def output(**options: Any) -> Any:
    ends = lambda t: EOS if t == [98] else hashed_letter(t)  # noqa: E731
    return fake_model(ends).generate(
        [[97], [98]],
        max_new_tokens=3,
        return_dict_in_generate=True,
        **{"output_scores": True, **options},
    )


def test_an_output_is_a_mapping() -> None:
    """Regression: none of these worked. Fields that are None are no items, as in transformers."""
    out = output()
    assert list(out) == list(out.keys()) == ["sequences", "scores", "finish_reasons", "stats"]
    assert out["sequences"] is out[0] is out.sequences
    assert out[:2] == (out.sequences, out.scores)
    assert out.to_tuple()[1] is out.scores
    assert "scores" in out
    assert "logits" not in out
    assert out.get("logits", 5) == 5
    assert out.logits is out.past_key_values is out.attentions is out.sequences_scores is None
    assert dict(out)["scores"] is out.scores
    assert len(out) == 4
    for missing in ("logits", "nothing"):
        with pytest.raises(KeyError):
            out[missing]
    with pytest.raises(AttributeError, match="GenerateOutput has no 'nothing'"):
        _ = out.nothing


@pytest.mark.parametrize("make", [copy.deepcopy, lambda out: pickle.loads(pickle.dumps(out))])
def test_an_output_can_be_copied(make: Any) -> None:
    out = output()
    np.testing.assert_array_equal(make(out).sequences, out.sequences)


def test_transition_scores() -> None:
    """By hand: the score of each chosen token, or its log-probability; NaN after the end."""
    out, model = output(), fake_model()
    found = model.compute_transition_scores(out.sequences, out.scores)
    assert found.shape == (2, 3)
    for step in range(3):
        assert found[0, step] == out.scores[step][0, out.sequences[0, 1 + step]]
    assert np.isnan(found[1]).tolist() == [False, True, True]
    logprobs = model.compute_transition_scores(out.sequences, out.scores, normalize_logits=True)
    row = out.scores[0][0].astype(float)
    assert logprobs[0, 0] == pytest.approx(found[0, 0] - np.log(np.exp(row).sum()), abs=1e-5)


def test_transition_scores_of_something_else() -> None:
    out, model = output(output_scores=False), fake_model()
    with pytest.raises(ValueError, match="output_scores=True"):
        model.compute_transition_scores(out.sequences, out.scores)
    out = output()
    for wrong in (np.zeros((1, 1), int), np.full((2, 3), 2)):  # other rows, other beams
        with pytest.raises(ValueError, match="beam_indices must be those of the same generate"):
            model.compute_transition_scores(out.sequences, out.scores, beam_indices=wrong)
