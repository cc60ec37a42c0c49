"""The loop, scheduler and slots on a fake backend: which tokens are computed, where, and when."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from localgen import GenerationInterrupted
from localgen.engine.sampling.chain import Sampler
from tests.fakes import (
    EOS,
    FakeBackend,
    LateBackend,
    SlowBackend,
    fake_model,
    reference_greedy,
    spelling,
)

PROMPTS = [list(b"short"), list(b"a prompt that is longer than one batch of sixteen"), list(b"x")]


def new_tokens(model, prompts, **options):
    return [done.token_ids for done in model.complete(prompts, **options)]


def test_greedy_equals_the_slow_loop():
    """The cached loop gives what computing every sequence from its start gives."""
    model = fake_model()
    expected = [reference_greedy(prompt, 20) for prompt in PROMPTS]
    assert new_tokens(model, PROMPTS, max_new_tokens=20) == expected


@pytest.mark.parametrize("n_batch", [1, 2, 5, 16, 512])
@pytest.mark.parametrize("max_sequences", [1, 2, 3, 8])
def test_result_does_not_depend_on_batch_or_slots(n_batch, max_sequences):
    """Chunks of a prompt, waiting rows and freed slots change no row's tokens."""
    if max_sequences > n_batch:
        pytest.skip("llama.cpp has no context with more sequences than n_batch")
    model = fake_model(n_batch=n_batch, max_sequences=max_sequences)
    prompts = [list(b"row number %d" % i) * (1 + i % 3) for i in range(9)]
    lengths = [3, 1, 7, 20, 2, 9, 4, 1, 11]
    expected = [reference_greedy(p, n) for p, n in zip(prompts, lengths, strict=True)]

    def stops_at(tokens):
        for prompt, length in zip(prompts, lengths, strict=True):
            if tokens[: len(prompt)] == prompt and len(tokens) - len(prompt) == length - 1:
                return EOS
        return reference_greedy(tokens, 1)[0]

    model.backend.script = stops_at
    got = new_tokens(model, prompts, max_new_tokens=30)
    assert [row[:-1] for row in got] == [row[:-1] for row in expected]
    assert [len(row) for row in got] == lengths


def test_no_forward_pass_after_the_last_token():
    """A row's last token is never decoded: n prompt tokens and n_new - 1 others are."""
    model = fake_model()
    model.complete([list(b"abcd")], max_new_tokens=5)
    assert model.backend.n_decoded == 4 + 4


def test_finished_rows_cost_nothing():
    """After a row ends, no batch holds its slot; the others' slots become consecutive again."""
    model = fake_model(spelling("ab"), max_sequences=4)
    prompts = [list(b"?"), list(b"q?"), list(b"qq?")]
    script, long_row = model.backend.script, list(b"q?")

    def one_goes_on(tokens):
        return ord("z") if tokens[:2] == long_row else script(tokens)

    model.backend.script = one_goes_on
    done = model.complete(prompts, max_new_tokens=6)
    assert [len(row.token_ids) for row in done] == [3, 6, 3]
    last_batches = [slots for name, slots in model.backend.calls if name == "decode"][-3:]
    assert all(len(slots) == 1 for slots in last_batches)


def test_holes_are_closed_by_copying():
    """A row in the middle that ends is replaced by the last one, so that slots stay consecutive."""
    model = fake_model(max_sequences=4)

    def middle_stops(tokens):
        return EOS if tokens[0] == ord("b") else reference_greedy(tokens, 1)[0]

    model.backend.script = middle_stops
    prompts = [list(b"aaa"), list(b"bbb"), list(b"ccc")]
    got = new_tokens(model, prompts, max_new_tokens=4)
    assert got[0] == reference_greedy(prompts[0], 4)
    assert got[2] == reference_greedy(prompts[2], 4)
    assert ("kv_copy", (2, 1)) in model.backend.calls


def test_shared_prompt_is_computed_once():
    """num_return_sequences copies the prompt's KV cache instead of computing it again."""
    model = fake_model(max_sequences=4, n_batch=64)
    done = model.complete([list(b"a shared prompt")], num_return_sequences=3, max_new_tokens=1,
                          do_sample=True, seed=1)  # fmt: skip
    assert model.backend.n_decoded == len(b"a shared prompt")
    assert [row.stats.n_cached for row in done] == [0, 15, 15]


def test_forks_without_a_free_slot_still_run():
    """Rows of a shared prompt that find no slot in time compute the prompt themselves."""
    model = fake_model(max_sequences=2)
    done = model.complete([list(b"prompt")], num_return_sequences=5, max_new_tokens=3,
                          do_sample=True, seed=[1, 2, 3, 4, 5])  # fmt: skip
    alone = [
        model.complete([list(b"prompt")], max_new_tokens=3, do_sample=True, seed=[seed])[0]
        for seed in (1, 2, 3, 4, 5)
    ]
    assert [row.token_ids for row in done] == [row.token_ids for row in alone]


def test_a_rows_draws_do_not_depend_on_its_neighbours():
    """With a seed of its own, a row gets the same tokens alone and in any batch."""
    model = fake_model()
    options: dict[str, Any] = {
        "do_sample": True,
        "temperature": 3.0,
        "top_k": 0,
        "max_new_tokens": 12,
    }
    alone = model.complete([PROMPTS[0]], seed=[7], **options)[0]
    for others in ([], [PROMPTS[1]], [PROMPTS[1], PROMPTS[2], PROMPTS[1]]):
        prompts = [*others, PROMPTS[0]]
        seeds = [*range(100, 100 + len(others)), 7]
        assert model.complete(prompts, seed=seeds, **options)[-1].token_ids == alone.token_ids


def test_same_seed_same_draws_and_rows_differ():
    """One int seeds the whole call: it repeats, and equal prompts get different rows."""
    model = fake_model()
    options: dict[str, Any] = {
        "do_sample": True,
        "temperature": 5.0,
        "top_k": 0,
        "max_new_tokens": 12,
    }
    first = new_tokens(model, [PROMPTS[0]] * 3, seed=3, **options)
    assert new_tokens(model, [PROMPTS[0]] * 3, seed=3, **options) == first
    assert first[0] != first[1] != first[2]
    assert new_tokens(model, [PROMPTS[0]] * 3, seed=4, **options) != first


def test_reported_seed_repeats_an_unseeded_call():
    """seed=None says in the stats which seed it drew; given again, it gives the same tokens."""
    model = fake_model()
    options: dict[str, Any] = {
        "do_sample": True,
        "temperature": 5.0,
        "top_k": 0,
        "max_new_tokens": 12,
    }
    first = model.complete([PROMPTS[0]], **options)[0]
    again = model.complete([PROMPTS[0]], seed=first.stats.seed, **options)[0]
    assert again.token_ids == first.token_ids


def test_another_call_in_the_middle_of_a_stream():
    """A stream whose KV cache was taken by another call goes on with the same tokens."""
    model = fake_model()
    stream = model.stream(PROMPTS[0], max_new_tokens=10)
    head = [next(stream) for _ in range(4)]
    assert new_tokens(model, [PROMPTS[1]], max_new_tokens=3) == [reference_greedy(PROMPTS[1], 3)]
    rest = list(stream)
    assert list("".join(head + rest).encode()) == reference_greedy(PROMPTS[0], 10)


def test_deadline_inside_a_forward_pass_keeps_tokens():
    """Rows that are cut off by max_time come back with what they have."""
    model = fake_model(backend=LateBackend(n_batch=64))
    done = model.complete(PROMPTS[:2], max_new_tokens=10, max_time=0.5)
    assert [row.finish_reason for row in done] == ["time", "time"]
    assert [row.token_ids for row in done] == [reference_greedy(p, 2) for p in PROMPTS[:2]]
    assert new_tokens(model, PROMPTS[:1], max_new_tokens=3) == [reference_greedy(PROMPTS[0], 3)]


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_cancel_is_heard_while_the_kv_cache_is_made(is_shared):
    """The call ends without a token, and the next one is right: with cells that are shared too."""
    backend = SlowBackend(n_batch=64)
    model = fake_model(backend=backend)
    cancel = threading.Event()
    backend.on_late = cancel.set
    prefix = b"one prefix that both of them share, " if is_shared else b""
    prompts = [list(prefix + end) for end in (b"a", b"b")]
    done = model.complete(prompts, cancel=cancel, max_new_tokens=10)
    assert [(row.token_ids, row.finish_reason) for row in done] == [([], "cancelled")] * 2
    assert model.backend.n_decoded == 0
    assert new_tokens(model, prompts, max_new_tokens=3) == [reference_greedy(p, 3) for p in prompts]


def test_a_cancel_while_the_kv_cache_is_made_ends_one_call_only():
    """Another call's row loses its KV, and no token."""
    backend = SlowBackend(n_batch=64)
    model = fake_model(backend=backend)
    cancel = threading.Event()
    backend.late_call, backend.on_late = 2, cancel.set
    stream = model.stream(PROMPTS[0], max_new_tokens=9)
    next(stream)
    (done,) = model.complete([PROMPTS[1]], cancel=cancel, max_new_tokens=200)
    assert (done.token_ids, done.finish_reason) == ([], "cancelled")
    list(stream)
    assert stream.completion.token_ids == reference_greedy(PROMPTS[0], 9)


def test_a_deadline_is_heard_while_the_kv_cache_is_made():
    """The time that the caller waited is counted."""
    model = fake_model(backend=SlowBackend())
    (done,) = model.complete([PROMPTS[0]], max_new_tokens=9, max_time=0.01)
    assert (done.token_ids, done.finish_reason) == ([], "time")
    assert done.stats.overhead_seconds > 0
    assert new_tokens(model, [PROMPTS[0]], max_new_tokens=3) == [reference_greedy(PROMPTS[0], 3)]


def test_the_making_of_the_kv_cache_is_not_stopped_while_a_prefix_is_pinned(monkeypatch):
    """What is pinned would be lost, for another call's cancel."""
    model = fake_model()
    cancel = threading.Event()
    asked = []
    reserve = model.backend.reserve

    def noted(*args, should_stop=None, **options):
        asked.append(should_stop is not None)
        return reserve(*args, **options)

    monkeypatch.setattr(model.backend, "reserve", noted)
    with model.prefill(PROMPTS[0]) as prefix:
        model.complete([PROMPTS[1]], cancel=cancel, max_new_tokens=300)
        assert prefix.is_cached
    assert asked == [True, False]


def test_a_failure_carries_what_was_generated():
    """Nothing already produced is lost when a later forward pass fails."""
    from localgen import DecodeError

    model = fake_model()
    calls = iter(range(3))

    def fail_at_fourth():
        if next(calls, None) is None:
            raise DecodeError("the graph failed")

    model.backend.on_decode = fail_at_fourth
    with pytest.raises(DecodeError) as caught:
        model.complete([PROMPTS[0]], max_new_tokens=10)
    assert caught.value.partial[0].token_ids == reference_greedy(PROMPTS[0], 3)
    model.backend.on_decode = lambda: None
    assert new_tokens(model, PROMPTS[:1], max_new_tokens=3) == [reference_greedy(PROMPTS[0], 3)]


def test_a_failure_of_the_first_row_leaves_the_others_their_tokens(monkeypatch):
    """It is taken out of the running rows while the tokens of that step are handed to them."""
    model, sample = fake_model(max_sequences=3), Sampler.sample

    def fail_once(self, logits, sequence):
        if sequence.n_new == 12 and sequence.prompt_ids.tolist() == PROMPTS[0]:
            raise RuntimeError("of a caller's function")
        return sample(self, logits, sequence)

    monkeypatch.setattr(Sampler, "sample", fail_once)
    streams = [model.stream(prompt, max_new_tokens=20) for prompt in PROMPTS]
    for stream in streams:
        next(stream)
    for stream, prompt in zip(streams[1:], PROMPTS[1:], strict=True):
        list(stream)
        assert stream.completion.token_ids == reference_greedy(prompt, 20)
    with pytest.raises(RuntimeError, match="caller's function"):
        list(streams[0])


def test_a_failure_of_one_row_of_a_call_is_raised_as_it_is():
    """It ends the call's other rows in the same step."""
    prompts = [list(b"one"), list(b"two")]

    def fail(input_ids, scores):
        if input_ids[0].tolist() == [*prompts[0], *reference_greedy(prompts[0], 4)]:
            raise RuntimeError("of a caller's function")
        return scores

    with pytest.raises(RuntimeError, match="caller's function"):
        fake_model().generate(prompts, max_new_tokens=12, logits_processor=fail)


def test_ctrl_c_carries_what_was_generated():
    """Ctrl-C raises GenerationInterrupted, a KeyboardInterrupt, with the rows so far."""
    model = fake_model()
    calls = iter(range(2))

    def interrupt():
        if next(calls, None) is None:
            raise KeyboardInterrupt

    model.backend.on_decode = interrupt
    with pytest.raises(GenerationInterrupted) as caught:
        model.complete([PROMPTS[0]], max_new_tokens=10)
    assert isinstance(caught.value, KeyboardInterrupt)
    assert "`partial` of this exception holds" in str(caught.value)
    assert caught.value.__suppress_context__
    assert caught.value.partial[0].token_ids == reference_greedy(PROMPTS[0], 2)
    assert caught.value.partial[0].finish_reason == "cancelled"


def test_rows_stop_at_the_edge_of_the_context():
    """A row may fill the context to its last token, and then ends with "length"."""
    model = fake_model(n_ctx=20)
    done = model.complete([list(b"0123456789"), list(b"01234567890123456")], max_new_tokens=50)
    assert [len(row.token_ids) for row in done] == [10, 3]
    assert [row.finish_reason for row in done] == ["length", "length"]


def test_logits_of_an_earlier_step_are_not_kept():
    """Recorded logits are copies: the backend's buffer is overwritten at each step."""
    model = fake_model()
    out = model.generate([PROMPTS[0]], max_new_tokens=3, return_dict_in_generate=True,
                         output_logits=True)  # fmt: skip
    assert all(np.isfinite(step).all() for step in out.logits)
    assert [int(step[0].argmax()) for step in out.logits] == reference_greedy(PROMPTS[0], 3)


def test_streams_of_other_calls_are_independent_of_slot_numbers():
    """Two models on two backends never share state."""
    first, second = fake_model(), fake_model()
    assert isinstance(first._backend, FakeBackend)
    a, b = first.stream(PROMPTS[0], max_new_tokens=5), second.stream(PROMPTS[1], max_new_tokens=5)
    mixed = [(next(a), next(b)) for _ in range(5)]
    assert list("".join(x for x, _ in mixed).encode()) == reference_greedy(PROMPTS[0], 5)
    assert list("".join(y for _, y in mixed).encode()) == reference_greedy(PROMPTS[1], 5)
