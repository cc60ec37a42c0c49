"""Prompt lookup on real weights: a text that repeats takes fewer passes, and stays the same."""

from __future__ import annotations

import pytest

from localgen import LocalModel
from localgen.engine.pass_costs import PassCosts

LINE = "The red fox crossed the frozen river at dawn, and the old dog slept by the fire. "


@pytest.fixture(autouse=True)
def _drafts_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there are drafts must not depend on what else the machine does."""
    monkeypatch.setattr(PassCosts, "seconds", lambda self, n_tokens: 1.0)


def test_a_text_that_repeats_takes_fewer_passes(smollm2: LocalModel) -> None:
    """The model is sure of each token, so rounding decides none."""
    plain, drafted = (
        smollm2.complete(LINE * 4, max_new_tokens=24, prompt_lookup_num_tokens=n) for n in (None, 8)
    )
    assert drafted.text == plain.text
    assert drafted.stats.n_accepted > 0
    assert drafted.stats.n_passes == drafted.stats.n_new - drafted.stats.n_accepted
    assert plain.stats.n_passes == plain.stats.n_new


def test_rows_of_a_batch_have_drafts_of_their_own(smollm2: LocalModel) -> None:
    prompts = [LINE * 3, "Why is the sky blue?", LINE[4:] * 3]
    # Further on two tokens are almost equally likely, and rounding decides.
    done = smollm2.complete(prompts, max_new_tokens=10, prompt_lookup_num_tokens=8)
    alone = [smollm2.complete(prompt, max_new_tokens=10) for prompt in prompts]
    assert [done[i].text for i in (0, 2)] == [alone[i].text for i in (0, 2)]
    assert done[0].stats.n_accepted > 0
    assert done[2].stats.n_accepted > 0
