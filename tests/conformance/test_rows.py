"""A row's result is its own: whatever runs beside it, however it is asked for, on every memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import Completion, ContextFullError, GenerationConfig, LocalModel, ModelConfig
from localgen.gguf import gate
from localgen.gguf.memory import estimate
from tests.conformance.compare import OPTIONS, TOLERANCE, Alone, prompt
from tests.conformance.invariants import backend_of, check_idle

N_NEW = 12
GREEDY: dict[str, Any] = {"max_new_tokens": N_NEW, "do_sample": False, "logprobs": 2}
RAGGED = [prompt(row, length) for row, length in enumerate([40, 3, 23, 1, 12, 70, 8])]


def check_rows(rows: list[Completion], prompts: list[list[int]], alone: Alone) -> None:
    assert [row.prompt_token_ids for row in rows] == prompts
    for row in rows:
        alone.check_row(row, N_NEW)


def test_batched_ragged_rows_equal_single_rows(model: LocalModel, alone: Alone) -> None:
    """Protects tokens and log-probabilities of rows of unequal lengths in one batch."""
    check_rows(model.complete(RAGGED, **GREEDY), RAGGED, alone)


def test_batched_logits_equal_single_logits(model: LocalModel) -> None:
    """Protects all logits of a padded batch, not only those of the tokens that were chosen."""
    options: dict[str, Any] = {
        "max_new_tokens": 1, "return_dict_in_generate": True, "output_logits": True,
    }  # fmt: skip
    width = max(map(len, RAGGED))
    ids = [[9] * (width - len(row)) + row for row in RAGGED]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in RAGGED]
    (together,) = model.generate(ids, mask, **options).logits
    for logits, row in zip(together, RAGGED, strict=True):
        (single,) = model.generate([row], **options).logits
        np.testing.assert_allclose(logits, single[0], atol=TOLERANCE)


def test_a_row_does_not_depend_on_its_neighbours_or_its_index(
    model: LocalModel, alone: Alone
) -> None:
    """Protects a row from the company that it is in, and from its place there."""
    for order in ([3, 1], [0, 2, 4, 6], [6, 5, 4, 3, 2, 1, 0], [1] * 5, [2, 2, 5]):
        prompts = [RAGGED[i] for i in order]
        check_rows(model.complete(prompts, **GREEDY), prompts, alone)


@pytest.mark.parametrize("n_slots", [1, 2, 3, 5])
def test_n_requests_over_m_slots_each_get_their_own_answer(
    n_slots: int, path: Path, alone: Alone
) -> None:
    """Protects rows that wait for a slot, whoever had it before; their beginnings are shared."""
    stem = prompt(3, 64)
    shared = [stem[:k] + prompt(k, 4) for k in (1, 15, 16, 17, 31, 40, 63, 64)]
    with LocalModel.from_pretrained(path, max_sequences=n_slots, **OPTIONS) as model:
        for prompts in (RAGGED, shared, shared[::-1]):
            check_rows(model.complete(prompts, **GREEDY), prompts, alone)
        check_idle(model)


def test_samples_of_many_prompts_over_few_slots(path: Path, alone: Alone) -> None:
    """Protects num_return_sequences: each sample follows its own prompt. top_k=1 is greedy."""
    options = {**GREEDY, "do_sample": True, "top_k": 1, "num_return_sequences": 3}
    for n_slots in (2, 5):
        with LocalModel.from_pretrained(path, max_sequences=n_slots, **OPTIONS) as model:
            rows = model.complete(RAGGED[:4], **options)
        check_rows(rows, [row for row in RAGGED[:4] for _ in range(3)], alone)


def test_each_row_has_its_own_config(path: Path, alone: Alone) -> None:
    """Protects per-row options, while rows come and go over few slots."""
    lengths = [1, 12, 3, 7, 12, 2, 5]
    configs = [
        GenerationConfig(max_new_tokens=n, do_sample=False, logprobs=2, suppress_tokens=[s])
        for n, s in zip(lengths, range(100, 107), strict=True)
    ]
    with LocalModel.from_pretrained(path, max_sequences=3, **OPTIONS) as model:
        rows = model.complete(RAGGED, generation_config=configs)
        singles = [
            model.complete([row], generation_config=config)[0]
            for row, config in zip(RAGGED, configs, strict=True)
        ]
    for row, single, n, suppressed in zip(rows, singles, lengths, range(100, 107), strict=True):
        assert len(row.token_ids) <= n
        assert suppressed not in row.token_ids
        first, second = (np.array([step.logprob for step in r.logprobs]) for r in (row, single))  # type: ignore[union-attr]
        if row.token_ids == single.token_ids:
            np.testing.assert_allclose(first, second, atol=TOLERANCE)
        else:
            assert alone.n_clear(row.prompt_token_ids, n) < n


def test_greedy_reruns_are_identical(model: LocalModel) -> None:
    """Protects the same call from what earlier ones left: tokens, text and reasons."""
    first, *others = [model.complete(RAGGED, **GREEDY) for _ in range(3)]
    for rows in others:
        for a, b in zip(first, rows, strict=True):
            assert (a.text, a.token_ids, a.finish_reason) == (b.text, b.token_ids, b.finish_reason)


SAMPLED: dict[str, Any] = {"max_new_tokens": 8, "do_sample": True, "top_k": 0}


def test_deterministic_rows_are_bitwise_the_same(path: Path) -> None:
    """The logits of a row do not change in their last bit, whatever is computed beside it."""
    options = {**OPTIONS, "flash_attention": "auto", "deterministic": True}
    prompts = [prompt(row, 40) for row in range(5)]
    more: dict[str, Any] = {
        "max_new_tokens": 8, "output_logits": True, "return_dict_in_generate": True,
        "eos_token_id": [],
    }  # fmt: skip
    with LocalModel.from_pretrained(path, **options) as model:
        first = model.generate([prompts[2]], **more)
        together = model.generate(prompts, **more)
        again = model.generate([prompts[2]], **more)
    for alone, ours, later in zip(first.logits, together.logits, again.logits, strict=True):
        np.testing.assert_array_equal(alone[0], ours[2])
        np.testing.assert_array_equal(alone[0], later[0])


def test_same_seed_same_draws_alone_or_in_any_batch(path: Path) -> None:
    """Protects draws: bitwise equal logits (deterministic=True) and a row's own seed give them."""
    options = {**OPTIONS, "max_sequences": 3, "deterministic": True}
    with LocalModel.from_pretrained(path, **options) as model:
        single = [model.complete([RAGGED[i]], seed=[50 + i], **SAMPLED)[0] for i in range(5)]
        for order in ([0, 1, 2, 3, 4], [4, 2, 0], [3, 1]):
            prompts, seeds = [RAGGED[i] for i in order], [50 + i for i in order]
            rows = model.complete(prompts, seed=seeds, **SAMPLED)
            assert [row.token_ids for row in rows] == [single[i].token_ids for i in order]


def test_different_seeds_differ(model: LocalModel) -> None:
    """Protects against a seed, or a row's place in it, that is not read."""
    rows = model.complete([RAGGED[0]] * 6, seed=3, eos_token_id=[], **SAMPLED)
    other = model.complete([RAGGED[0]] * 6, seed=4, eos_token_id=[], **SAMPLED)
    assert len({tuple(row.token_ids) for row in [*rows, *other]}) == 12


@pytest.mark.parametrize("n_batch", [5, 16])
def test_chunked_prefill_equals_whole(n_batch: int, path: Path, alone: Alone) -> None:
    """Protects prompts that are longer than a pass, alone and among others."""
    options = {**OPTIONS, "n_batch": n_batch, "max_sequences": 4}
    with LocalModel.from_pretrained(path, **options) as model:
        check_rows(model.complete(RAGGED, **GREEDY), RAGGED, alone)


def test_stream_equals_non_stream(model: LocalModel, alone: Alone) -> None:
    """Protects pieces: together they are the text, and nothing else of the row differs."""
    for ids in RAGGED[:3]:
        stream = model.stream(ids, **GREEDY)
        pieces = "".join(stream)
        alone.check_row(stream.completion, N_NEW)
        assert pieces == stream.completion.text == model.complete([ids], **GREEDY)[0].text


def test_complete_iter_gives_what_complete_gives(model: LocalModel) -> None:
    """Protects results that come one after another: each once, and under its own index."""
    found = dict(model.complete_iter(RAGGED, **GREEDY))
    whole = model.complete(RAGGED, **GREEDY)
    assert sorted(found) == list(range(len(RAGGED)))
    assert [found[i].text for i in range(len(RAGGED))] == [row.text for row in whole]


def test_prompt_as_ids_equals_prompt_as_text(model: LocalModel) -> None:
    """Protects the two ways to say the same prompt, alone and mixed in one call."""
    texts = ["the cat and the hat", "hello", "and 1+1=2"]
    ids = [model.tokenizer.encode(text) for text in texts]
    by_text, by_ids = model.complete(texts, **GREEDY), model.complete(ids, **GREEDY)
    mixed = model.complete([texts[0], ids[1], texts[2]], **GREEDY)
    for rows in (by_ids, mixed):
        assert [row.prompt_token_ids for row in rows] == ids
        assert [row.text for row in rows] == [row.text for row in by_text]


@pytest.mark.parametrize("n_new", [1, 2, 7])
def test_length_stop_gives_exactly_the_count(n_new: int, model: LocalModel) -> None:
    """Protects max_new_tokens: no token more, and none less where nothing else ends a row."""
    rows = model.complete(RAGGED, max_new_tokens=n_new, eos_token_id=[])
    assert [len(row.token_ids) for row in rows] == [n_new] * len(RAGGED)
    assert {row.finish_reason for row in rows} == {"length"}


def test_a_full_context_is_an_error_or_length(path: Path) -> None:
    """Protects the edge: a prompt that leaves no room is refused, one that leaves some fills it."""
    options = {**OPTIONS, "n_ctx": 256}
    with LocalModel.from_pretrained(path, max_sequences=2, **options) as model:
        before = model.complete([RAGGED[0]], **GREEDY)[0].token_ids
        for n in (256, 300):
            with pytest.raises(ContextFullError, match=f"{n} tokens and n_ctx is 256"):
                model.complete([RAGGED[0], prompt(1, n)], max_new_tokens=5)
        with pytest.raises(ContextFullError):
            model.score(prompt(1, 257))
        rows = model.complete([prompt(1, 255), prompt(2, 251)], eos_token_id=[])
        assert [len(row.token_ids) for row in rows] == [1, 5]
        assert [row.finish_reason for row in rows] == ["length", "length"]
        assert len(model.score(prompt(1, 256))) == 255
        assert model.complete([RAGGED[0]], **GREEDY)[0].token_ids == before
        check_idle(model)


def test_rows_that_get_room_as_they_grow_equal_those_that_had_it(path: Path, alone: Alone) -> None:
    """Protects what moves to a longer KV cache, or waits for one, on every kind of memory."""
    prompts = [prompt(row, length) for row, length in enumerate([508, 500, 505])]
    grow: dict[str, Any] = {**OPTIONS, "max_sequences": 3, "reserved_new_tokens": 2}
    with LocalModel.from_pretrained(path, **grow) as model:
        check_rows(model.complete(prompts, **GREEDY), prompts, alone)
        assert backend_of(model).n_ctx_seq == 1024
        check_idle(model)
    file = gate.check_model(path)
    short, long = (
        estimate(file, ModelConfig(n_ctx=n_ctx, kv_type="f32")).ram.kv_cache
        for n_ctx in (512, 1024)
    )
    budget = max(3 * short, long)
    with LocalModel.from_pretrained(path, **grow, kv_budget=budget, check_memory=False) as model:
        check_rows(model.complete(prompts, **GREEDY), prompts, alone)
        check_idle(model)
