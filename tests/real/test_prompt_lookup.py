"""Prompt lookup on real weights: a text that repeats takes fewer passes, and stays the same."""

from __future__ import annotations

import pytest

from localgen import LocalModel
from localgen.engine.pass_costs import PassCosts

COUNTED = ", ".join(map(str, range(1, 13)))
EVEN = ", ".join(map(str, range(2, 26, 2)))
# Texts that SmolLM2 continues for 24 tokens with margins of more than 5 logits.
COUNTING = f"{COUNTED}\n{COUNTED}\n1, 2, 3, 4,"
IN_TWOS = f"{EVEN}\n{EVEN}\n2, 4, 6, 8,"


@pytest.fixture(autouse=True)
def _drafts_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there are drafts must not depend on what else the machine does."""
    monkeypatch.setattr(PassCosts, "seconds", lambda self, n_tokens: 1.0)


def test_a_text_that_repeats_takes_fewer_passes(smollm2: LocalModel) -> None:
    plain, drafted = (
        smollm2.complete(COUNTING, max_new_tokens=24, prompt_lookup_num_tokens=n) for n in (None, 8)
    )
    assert drafted.text == plain.text
    assert drafted.stats.n_accepted > 0
    assert drafted.stats.n_passes == drafted.stats.n_new - drafted.stats.n_accepted
    assert plain.stats.n_passes == plain.stats.n_new


def test_rows_of_a_batch_have_drafts_of_their_own(smollm2: LocalModel) -> None:
    prompts = [COUNTING, "Why is the sky blue?", IN_TWOS]
    done = smollm2.complete(prompts, max_new_tokens=10, prompt_lookup_num_tokens=8)
    alone = [smollm2.complete(prompt, max_new_tokens=10) for prompt in prompts]
    assert [done[i].text for i in (0, 2)] == [alone[i].text for i in (0, 2)]
    assert done[0].stats.n_accepted > 0
    assert done[2].stats.n_accepted > 0
