"""Sequences that get room in the KV cache as they grow, on a fake backend."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from localgen import DecodeError, ModelConfig
from tests.fakes import EOS, FakeBackend, FakeModel, engine_of, reference_greedy

PROMPTS = [list(b"row %d" % number) for number in range(8)]
GREEDY: dict[str, Any] = {"do_sample": False}


def growing_model(backend: FakeBackend | None = None, *, reserved: int | None = 16) -> FakeModel:
    config = ModelConfig(n_ctx=256, max_sequences=8, reserved_new_tokens=reserved)
    return FakeModel(backend or FakeBackend(n_batch=64), config)


def sizes(model: FakeModel) -> list[tuple[int, int]]:
    """The (sequences, tokens of each) of every KV cache that was made."""
    return [size for name, size in model.backend.calls if name == "reserve"]


def widths(model: FakeModel) -> list[int]:
    """How many sequences each pass had."""
    return [len(set(seq_ids)) for name, seq_ids in model.backend.calls if name == "decode"]


def ending_after(n: int) -> Any:
    """A script whose texts have ``n`` letters."""

    def script(tokens: list[int]) -> int:
        return EOS if len(tokens) >= len(PROMPTS[0]) + n else reference_greedy(tokens, 1)[0]

    return script


def test_short_texts_take_no_room_for_what_they_might_have_become() -> None:
    """Eight texts that only the context limits run together where one whole context fits."""
    model = growing_model(FakeBackend(ending_after(10), n_batch=64, budget=256))
    done = model.complete(PROMPTS, max_length=256, **GREEDY)
    assert {each.finish_reason for each in done} == {"eos"}
    assert max(widths(model)) == 8
    assert sizes(model)[-1] == (8, len(PROMPTS[0]) + 16)


def test_without_the_option_they_wait_for_each_other() -> None:
    model = growing_model(FakeBackend(ending_after(10), n_batch=64, budget=256), reserved=None)
    model.complete(PROMPTS, max_length=256, **GREEDY)
    assert max(widths(model)) == 1


def test_a_long_text_gets_more_room_and_nothing_is_computed_twice() -> None:
    model = growing_model()
    done = model.complete(PROMPTS[:3], max_new_tokens=60, **GREEDY)
    assert [each.token_ids for each in done] == [reference_greedy(p, 60) for p in PROMPTS[:3]]
    assert model.backend.n_decoded == 3 * (len(PROMPTS[0]) + 59)
    assert [n_tokens for _, n_tokens in sizes(model)] == sorted({n for _, n in sizes(model)})
    assert len(sizes(model)) == 4
    assert {each.stats.n_cached for each in done} == {0}


def test_where_the_budget_ends_texts_wait_and_all_are_whole() -> None:
    """Each fits alone at its full length, and at first all fit together."""
    model = growing_model(FakeBackend(n_batch=64, budget=200))
    done = model.complete(PROMPTS, max_new_tokens=150, **GREEDY)
    assert [each.token_ids for each in done] == [reference_greedy(p, 150) for p in PROMPTS]
    assert max(widths(model)) == 8
    assert widths(model)[-1] == 1
    assert engine_of(model).idle


def test_the_one_that_came_first_gets_room_first() -> None:
    model = growing_model(FakeBackend(n_batch=64, budget=200))
    order = [index for index, _ in model.complete_iter(PROMPTS, max_new_tokens=150, **GREEDY)]
    assert order == sorted(order)


@pytest.mark.parametrize("can_truncate", [True, False])
def test_a_state_that_cannot_be_cut_goes_on_where_it_was(can_truncate: bool) -> None:
    model = growing_model(FakeBackend(n_batch=64, can_truncate=can_truncate))
    done = model.complete(PROMPTS[:2], max_new_tokens=60, **GREEDY)
    assert [each.token_ids for each in done] == [reference_greedy(p, 60) for p in PROMPTS[:2]]
    assert model.backend.n_decoded == 2 * (len(PROMPTS[0]) + 59)


def test_drafts_end_where_the_room_does() -> None:
    """Prompt lookup would write past it; FakeBackend checks every position."""
    backend = FakeBackend(lambda tokens: ord("abcd"[len(tokens) % 4]), n_batch=64)
    options: dict[str, Any] = {"max_new_tokens": 90, "prompt_lookup_num_tokens": 8, **GREEDY}
    model = growing_model(backend)
    prompts = [list(b"abcdabcdabcd"), list(b"cdabcdab")]
    done = model.complete(prompts, **options)
    plain = growing_model(FakeBackend(backend.script, n_batch=64), reserved=None)
    assert [each.token_ids for each in done] == [
        each.token_ids for each in plain.complete(prompts, **options)
    ]
    assert sum(each.stats.n_accepted for each in done) > 20


def test_one_that_waits_for_room_can_be_cancelled() -> None:
    backend = FakeBackend(n_batch=64, budget=100)
    model, cancel = growing_model(backend), threading.Event()

    def look() -> None:
        if backend.n_decoded > 150:
            cancel.set()

    backend.on_decode = look
    done = model.complete(PROMPTS[:4], max_new_tokens=90, cancel=cancel, **GREEDY)
    assert {each.finish_reason for each in done} == {"cancelled"}
    for each, prompt in zip(done, PROMPTS, strict=False):
        assert each.token_ids == reference_greedy(prompt, len(each.token_ids))
    assert engine_of(model).idle


def test_room_is_made_again_after_everything_was_lost() -> None:
    backend = FakeBackend(n_batch=64)
    model, is_lost = growing_model(backend), False

    def lose() -> None:
        nonlocal is_lost
        if backend.n_decoded > 40 and not is_lost:
            is_lost = True
            backend.lose_all()
            raise DecodeError("planned")

    alone = list(b"the other one")
    backend.on_decode = lose
    with pytest.raises(DecodeError):
        model.complete(PROMPTS[:2], max_new_tokens=60, **GREEDY)
    (done,) = model.complete([alone], max_new_tokens=60, **GREEDY)
    assert done.token_ids == reference_greedy(alone, 60)


def test_beams_have_all_their_room_at_their_start() -> None:
    model = growing_model()
    model.complete(PROMPTS[:1], max_new_tokens=40, num_beams=2)
    assert len(sizes(model)) == 1


def test_deterministic_results_are_never_moved() -> None:
    with pytest.raises(ValueError, match="reserved_new_tokens"):
        ModelConfig(deterministic=True, reserved_new_tokens=16)
