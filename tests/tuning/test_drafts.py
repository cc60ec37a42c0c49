"""Drafts on the user's prompts: which prompts are used, and how often they run."""

from __future__ import annotations

from typing import Any

import pytest

from localgen.tuning.drafts import LOOKUP, Drafts, check_drafts, checked_prompts
from tests.fakes import fake_model

TEXT = "to be or not to be, or "


def model(**config: Any) -> Any:
    return fake_model(lambda tokens: ord(TEXT[len(tokens) % len(TEXT)]), **config)


def test_a_slow_model_continues_fewer_prompts() -> None:
    prompts = [TEXT] * 4
    for n_tokens, n_prompts, n_new in ((1000, 4, 128), (70, 2, 35), (0, 1, 32)):
        drafts = Drafts(model(), prompts, n_tokens)
        assert (drafts.n_prompts, drafts.n_new) == (n_prompts, n_new)


def test_prompts_stay_cached_between_measurements() -> None:
    """Only new tokens are measured, so prompts are computed once."""
    own = model()
    drafts = Drafts(own, [TEXT, [5, 6, 7]], 64)
    drafts.warm_up()
    assert drafts.speed({}).prefill is None
    assert drafts.speed({LOOKUP: 4}).decode > 0
    done = own.complete(TEXT, max_new_tokens=1)
    assert done.stats.n_cached == done.stats.n_prompt - 1


def test_checking_prompts_computes_nothing() -> None:
    own = model(n_ctx=64)
    assert check_drafts(own, [TEXT]) is None
    assert own.complete(TEXT, max_new_tokens=1).stats.n_cached == 0


def test_a_prompt_that_cannot_be_continued_is_named() -> None:
    with pytest.raises(ValueError, match=r"prompt 2 of prompts cannot be used: .*n_ctx is 64"):
        check_drafts(model(n_ctx=64), [TEXT, TEXT * 9])
    with pytest.raises(ValueError, match=r"prompt 1 of prompts .* no chat template"):
        check_drafts(model(), [[{"role": "user", "content": "Hi"}]])


def test_a_model_without_drafts_says_why() -> None:
    assert "recurrent" in (check_drafts(model(can_truncate=False), [TEXT]) or "")


def test_eight_prompts_are_used_at_most() -> None:
    assert len(checked_prompts(TEXT for _ in range(20))) == 8


@pytest.mark.parametrize("prompts", ["one", [], [""], [1], 5])
def test_what_is_no_list_of_prompts_is_refused(prompts: Any) -> None:
    with pytest.raises(ValueError, match="prompts must"):
        checked_prompts(prompts)
