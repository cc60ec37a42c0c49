"""How tasks are run is checked before lm-eval is loaded."""

from __future__ import annotations

from typing import Any

import pytest

from localgen.evaluate.options import EvalOptions


@pytest.mark.parametrize("limit", [1, 20, 0.5, 3.0])
def test_a_limit_is_a_number_of_documents_or_a_share_of_them(limit: float) -> None:
    assert EvalOptions(limit=limit).limit == limit


@pytest.mark.parametrize("limit", [0, -1, 2.5, float("nan"), float("inf"), True, "5"])
def test_no_other_limit(limit: Any) -> None:
    with pytest.raises(ValueError, match="limit must be a whole number of documents or, below 1"):
        EvalOptions(limit=limit)


def test_examples_are_counted_from_none() -> None:
    assert EvalOptions(num_fewshot=0).num_fewshot == 0
    with pytest.raises(ValueError, match="num_fewshot must be at least 0, got -1"):
        EvalOptions(num_fewshot=-1)
