"""Beams on every memory: what was copied from beam to beam is what the text alone would compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from localgen import LocalModel
from tests.conformance.compare import TOLERANCE, prompt
from tests.conformance.invariants import check_idle

PROMPTS = [prompt(row, length) for row, length in enumerate([40, 3, 23, 70])]
OPTIONS: dict[str, Any] = {
    "num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 12, "eos_token_id": [],
}  # fmt: skip


@pytest.mark.parametrize("n", [1, 4])
def test_scores_are_those_of_the_texts_alone(model: LocalModel, n: int) -> None:
    """Protects the KV of beams: one prompt, and more than there are sequences for at once."""
    done = model.complete(PROMPTS[:n], logprobs=0, **OPTIONS)
    assert len(done) == 3 * n
    for each in done:
        alone = model.score([*each.prompt_token_ids, *each.token_ids])[-len(each.token_ids) :]
        assert each.logprobs is not None
        own = [step.logprob for step in each.logprobs]
        np.testing.assert_allclose(own, alone, rtol=0, atol=TOLERANCE)
        assert each.score == pytest.approx(float(np.mean(own)), abs=1e-5)
    check_idle(model)


def test_beams_differ(model: LocalModel) -> None:
    """Protects beams from each other: all texts of a prompt are different ones."""
    done = model.complete(PROMPTS, **OPTIONS)
    for first in range(0, len(done), 3):
        assert len({tuple(each.token_ids) for each in done[first : first + 3]}) == 3


def test_sampled_beams(model: LocalModel) -> None:
    done = model.complete(PROMPTS, do_sample=True, seed=3, logprobs=0, **OPTIONS)
    for each in done:
        alone = model.score([*each.prompt_token_ids, *each.token_ids])[-len(each.token_ids) :]
        assert each.logprobs is not None
        own = [step.logprob for step in each.logprobs]
        np.testing.assert_allclose(own, alone, rtol=0, atol=TOLERANCE)
