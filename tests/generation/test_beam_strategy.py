"""Beams through the whole of a call, on a fake model: against the slow search, and what ends it."""

from __future__ import annotations

import itertools
import threading
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from localgen import (
    Completion,
    GenerationConfig,
    GenerationInterrupted,
    KvBudgetError,
)
from localgen.engine.backend import Logits
from localgen.generation import results
from localgen.generation.text_arguments import text_arguments
from tests import fakes
from tests.beam_reference import Text, beam_search, log_softmax
from tests.fakes import EOS, N_VOCAB, FakeBackend, FakeModel, engine_of, fake_model

PROMPTS = [
    "a",
    "a prompt longer than the sixteen tokens of a batch, and than a shared prefix",
    "ab?",
]


def flat_logits(tokens: list[int], best: int) -> Logits:
    """Logits of which several are close, some of them the end, so that beams differ and finish."""
    seed = zlib.crc32(bytes(str(tokens), "ascii"))
    logits = np.random.RandomState(seed).standard_normal(N_VOCAB).astype(np.float32) * 2
    logits[EOS] += 3
    return logits


@pytest.fixture(autouse=True)
def _close_beams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fakes, "hashed_logits", flat_logits)


def reference(prompt: str, **options: Any) -> list[Text]:
    """The slow search, on the same logits."""

    def logprobs(new: list[int]) -> Any:
        return log_softmax(flat_logits([*prompt.encode(), *new], 0))

    return beam_search(logprobs, eos=(EOS,), **options)


def assert_found(done: list[Completion], expected: list[Text]) -> None:
    assert [each.token_ids for each in done] == [each.token_ids for each in expected]
    scores = [each.score for each in expected]
    assert [each.score for each in done] == pytest.approx(scores, abs=1e-5)


def model(**options: Any) -> FakeModel:
    return fake_model(**{"max_sequences": 8, **options})


OPTIONS: dict[str, dict[str, Any]] = {
    "four": {"num_beams": 4, "num_return_sequences": 4},
    "one returned": {"num_beams": 3},
    "long": {"num_beams": 3, "length_penalty": 2.0, "num_return_sequences": 2},
    "first": {"num_beams": 2, "early_stopping": True, "num_return_sequences": 2},
    "never": {"num_beams": 2, "early_stopping": "never", "num_return_sequences": 2},
}
KINDS: dict[str, dict[str, Any]] = {
    "shared cells": {},
    "recurrent": {"backend": "recurrent"},
    "one at a time": {"deterministic": True},
    "little memory": {"backend": "little"},
    "large batches": {"n_batch": 256},
}


def of_kind(kind: str) -> FakeModel:
    given = dict(KINDS[kind])
    if given.get("backend") == "recurrent":
        given["backend"] = FakeBackend(can_truncate=False)
    elif given.get("backend") == "little":  # streams of one prompt's beams at a time
        given["backend"] = FakeBackend(budget=4 * 90)
        given["backend"].can_share_cells = False
    return model(**given)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OPTIONS)
def test_the_texts_of_the_slow_search(name: str, kind: str) -> None:
    """A ragged batch gives each prompt what it gets alone, however the KV cache is laid out."""
    options: dict[str, Any] = {**OPTIONS[name], "max_new_tokens": 9}
    n = options.get("num_return_sequences", 1)
    done = of_kind(kind).complete(PROMPTS, eos_token_id=EOS, **options)
    assert len(done) == n * len(PROMPTS)
    for index, prompt in enumerate(PROMPTS):
        assert_found(done[index * n : (index + 1) * n], reference(prompt, **options))


def test_a_step_copies_no_text_and_computes_none_again() -> None:
    """The prompt is computed once; each step is one pass of one token a beam."""
    used = model(n_batch=256)
    used.complete(PROMPTS[1], num_beams=4, max_new_tokens=12, eos_token_id=[])
    assert used.backend.n_cells is not None
    assert used.backend.n_decoded == len(PROMPTS[1]) + 4 * 11
    assert used.backend.count("decode") == 12


def test_it_is_known_why_a_text_ends() -> None:
    """By its own end, or by the limit."""
    done = model().complete(
        PROMPTS, num_beams=3, num_return_sequences=3, max_new_tokens=3, early_stopping=True
    )
    for each in done:
        ended = each.token_ids[-1] in fakes.FakeVocab.eog_ids
        assert each.finish_reason == ("eos" if ended else "length")
        assert len(each.token_ids) == 3 or ended
    assert len({each.finish_reason for each in done}) == 2


def test_scores_fall_and_plain_calls_have_none() -> None:
    done = model().complete(["abc"], num_beams=4, num_return_sequences=4, max_new_tokens=6)
    scores = [each.score for each in done if each.score is not None]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    assert model().complete("abc", max_new_tokens=2).score is None


def test_logprobs_add_up_to_the_score() -> None:
    done = model().complete(
        PROMPTS, num_beams=3, num_return_sequences=2, max_new_tokens=7, logprobs=2
    )
    for each in done:
        assert each.logprobs is not None
        assert [step.token_id for step in each.logprobs] == each.token_ids
        total = sum(step.logprob for step in each.logprobs)
        assert each.score == pytest.approx(total / len(each.token_ids), abs=1e-5)


def test_stop_strings_end_beams() -> None:
    """A candidate whose text has one is finished, with the text before it."""
    stops = list("abcdxyz")  # no letters of "<eos>"
    done = model().complete(
        ["abc"],
        num_beams=3,
        num_return_sequences=3,
        max_new_tokens=8,
        eos_token_id=[],
        stop_strings=stops,
        sequence_bias={(ord(stop),): 3.0 for stop in stops},
    )
    stopped = [each for each in done if each.finish_reason == "stop"]
    assert len(stopped) > 1
    for each in stopped:
        assert each.stop_match in stops
        assert not set(each.text) & set(stops)
        assert each.token_ids[-1] == ord(each.stop_match)


def test_penalties_follow_the_beams() -> None:
    """Counts are those of each beam's own text: with every repeat forbidden, none repeats."""
    done = model().complete(
        PROMPTS, num_beams=4, num_return_sequences=4, max_new_tokens=9, no_repeat_ngram_size=1
    )
    for each in done:
        new = [*each.prompt_token_ids, *each.token_ids]
        assert len(set(each.token_ids)) == len(each.token_ids)
        assert not set(each.token_ids) & set(each.prompt_token_ids), new


def test_penalties_of_counts() -> None:
    """Against the slow search on penalized log-probabilities."""

    def logprobs(new: list[int]) -> Any:
        found = log_softmax(flat_logits([*b"abc", *new], 0))
        for token_id in set(new):
            found[token_id] -= new.count(token_id) * np.float32(2.5)
        return found

    options: dict[str, Any] = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 8}
    done = model().complete(["abc"], frequency_penalty=2.5, eos_token_id=EOS, **options)
    assert_found(done, beam_search(logprobs, eos=(EOS,), **options))


def test_a_processor_that_gives_nan() -> None:
    used = model()
    with pytest.raises(ValueError, match="prompt 0: a logits processor gave a score that is NaN"):
        used.complete("abc", num_beams=2, logits_processor=lambda _, scores: scores * np.nan)
    assert used.complete("abc", num_beams=2, max_new_tokens=2).token_ids


def test_renormalized_scores_add_up() -> None:
    """With a bias, log-probabilities are none any more, unless they are made so again."""

    def logprobs(new: list[int]) -> Any:
        found = log_softmax(flat_logits([*b"abc", *new], 0))
        found[65] += 4
        return log_softmax(found)

    options: dict[str, Any] = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 6}
    done = model().complete(
        ["abc"],
        sequence_bias={(65,): 4.0},
        renormalize_logits=True,
        eos_token_id=EOS,
        **options,
    )
    assert_found(done, beam_search(logprobs, eos=(EOS,), **options))


# --- what is forbidden ---


def test_a_beam_of_which_everything_is_forbidden_dies() -> None:
    """The others go on, and no text continues it."""

    def forbid(token_ids: Any, scores: Any) -> Any:
        return np.where(token_ids[:, -1:] % 2 == 0, -np.inf, scores)

    done = model().complete(
        "abc", num_beams=4, max_new_tokens=5, logits_processor=forbid, eos_token_id=[]
    )
    assert len(done.token_ids) == 5
    assert all(token_id % 2 for token_id in done.token_ids[:-1])


def test_a_beam_whose_allowed_tokens_are_banned_dies() -> None:
    """It is not revived by a score of 0 while another one goes on. The function gets the number of
    the prompt and each beam's own tokens, once for each beam and token."""
    seen = []

    def allow(batch_id: int, token_ids: Any) -> list[int]:
        seen.append((batch_id, bytes(token_ids.tolist())))
        first = token_ids[1:2].tolist()
        return [ord("x"), ord("y")] if not first else [EOS] if first == [ord("x")] else [ord("y")]

    options: dict[str, Any] = {"min_new_tokens": 3, "max_new_tokens": 3, "num_beams": 2}
    done = model().complete(["a", "b"], prefix_allowed_tokens_fn=allow, **options)
    assert [each.text for each in done] == ["yyy", "yyy"]
    for number, prompt in enumerate((b"a", b"b")):
        of_prompt = [text for batch_id, text in seen if batch_id == number]
        assert of_prompt[:2] == [prompt, prompt]
        assert sorted(of_prompt[2:4]) == [prompt + b"x", prompt + b"y"]


@pytest.mark.parametrize("function", [None, lambda _ids, scores: scores])
@pytest.mark.parametrize("samples", [False, True])
def test_allowed_tokens_that_are_banned_for_all_beams(function: Any, samples: bool) -> None:
    """transformers' rule: the constraint holds, with equal scores of 0."""
    options: dict[str, Any] = {"min_new_tokens": 3, "max_new_tokens": 9, "num_beams": 2}
    if samples:
        options |= {"do_sample": True, "seed": 1}
    done = model().complete(
        "a",
        prefix_allowed_tokens_fn=lambda _id, _ids: [EOS],
        logits_processor=function,
        **options,
    )
    assert (done.token_ids, done.score) == ([EOS], 0.0)


def test_everything_forbidden_for_all_beams() -> None:
    used = model()
    with pytest.raises(ValueError, match="prompt 0: the logits processors left no token to choose"):
        used.complete("abc", num_beams=3, logits_processor=lambda _, scores: scores - np.inf)
    assert used.complete("abc", max_new_tokens=2).token_ids


# --- beam sampling ---


def test_sampled_beams_are_repeated_by_their_seed() -> None:
    options: dict[str, Any] = {"num_beams": 3, "do_sample": True, "max_new_tokens": 8}
    first = model().complete(PROMPTS, seed=[5, 6, 7], num_return_sequences=2, **options)
    again = model().complete(PROMPTS, seed=[5, 6, 7], num_return_sequences=2, **options)
    assert [each.token_ids for each in first] == [each.token_ids for each in again]
    assert [each.stats.seed for each in first] == [5, 5, 6, 6, 7, 7]
    alone = model().complete(PROMPTS[1], seed=[6], num_return_sequences=2, **options)
    assert [each.token_ids for each in alone] == [each.token_ids for each in first[2:4]]
    others = model().complete(PROMPTS, seed=[8, 9, 10], num_return_sequences=2, **options)
    assert [each.token_ids for each in first] != [each.token_ids for each in others]


def test_sampled_beams_choose_among_what_filters_keep() -> None:
    """top_k=1 keeps two tokens of each beam, one more than there are ends: of two beams these are
    all candidates, so that nothing is left to chance."""

    def logprobs(new: list[int]) -> Any:
        found = log_softmax(flat_logits([*b"abc", *new], 0)) / np.float32(0.5)
        found[found < np.sort(found)[-2]] = -np.inf
        return found

    options: dict[str, Any] = {"num_beams": 2, "num_return_sequences": 2, "max_new_tokens": 7}
    done = model().complete(
        "abc", do_sample=True, top_k=1, temperature=0.5, seed=3, eos_token_id=EOS, **options
    )
    assert_found(done, beam_search(logprobs, eos=(EOS,), **options))


def test_without_filters_every_token_may_be_drawn() -> None:
    done = model().complete(
        "abc", num_beams=2, do_sample=True, top_k=0, temperature=50.0, seed=1, max_new_tokens=30
    )
    assert len(set(done.token_ids)) > 10


# --- the end from outside ---


def test_cancelled_beams_return_their_best() -> None:
    """Nothing that was found is lost, and the model works afterwards."""
    used, cancel = model(), threading.Event()
    passes = itertools.count(1)
    used.backend.on_decode = lambda: cancel.set() if next(passes) == 12 else None
    done = used.complete(
        PROMPTS, num_beams=2, num_return_sequences=2, max_new_tokens=50, cancel=cancel
    )
    assert {each.finish_reason for each in done} <= {"cancelled", "eos"}
    cancelled = [each for each in done if each.finish_reason == "cancelled"]
    assert cancelled
    assert all(each.token_ids for each in cancelled)
    used.backend.on_decode = lambda: None
    options: dict[str, Any] = {"num_beams": 2, "max_new_tokens": 6}
    again = used.complete("abc", eos_token_id=EOS, **options)
    assert_found([again], reference("abc", **options))


def test_a_deadline_returns_the_best_so_far() -> None:
    used = model(backend=fakes.LateBackend())
    used.backend.late_call = 9  # type: ignore[attr-defined]
    done = used.complete("abc", num_beams=3, max_new_tokens=50, max_time=0.2, eos_token_id=[])
    assert done.finish_reason == "time"
    assert len(done.token_ids) == 8


def test_an_interrupt_carries_what_was_found() -> None:
    used, passes = model(), itertools.count(1)

    def interrupt() -> None:
        if next(passes) == 6:
            raise KeyboardInterrupt

    used.backend.on_decode = interrupt
    with pytest.raises(GenerationInterrupted) as caught:
        used.complete("abc", num_beams=3, num_return_sequences=3, eos_token_id=[])
    assert [len(each.token_ids) for each in caught.value.partial] == [5, 5, 5]
    assert [each.finish_reason for each in caught.value.partial] == ["cancelled"] * 3
    assert engine_of(used).idle
    assert used.complete("abc", num_beams=3, max_new_tokens=2).token_ids


def test_a_failed_pass_carries_what_was_found() -> None:
    used, passes = model(), itertools.count(1)

    def fail() -> None:
        if next(passes) == 4:
            raise RuntimeError("no")

    used.backend.on_decode = fail
    with pytest.raises(RuntimeError) as caught:
        used.complete(["abc"], num_beams=2, eos_token_id=[])
    assert [len(each.token_ids) for each in caught.value.partial] == [3]  # type: ignore[attr-defined]


def before_step(number: int, used: FakeModel, call: Callable[[], object]) -> None:
    """Let something happen before a step of the engine."""
    engine = engine_of(used)
    step, numbers = engine.step, itertools.count(1)

    def disturbed(*given: Any) -> None:
        if next(numbers) == number:
            call()
        step(*given)

    engine.step = disturbed  # type: ignore[assignment,method-assign]


@pytest.mark.parametrize("loss", ["lost", "restarted"])
@pytest.mark.parametrize("kind", ["shared cells", "recurrent", "large batches", "one at a time"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_lost_cache_is_computed_again(prompt: str, kind: str, loss: str) -> None:
    """Whenever llama.cpp loses the KV cache, or everything starts over, the texts are the same."""
    options: dict[str, Any] = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 8}
    expected = reference(prompt, **options)
    for number in (2, 4, 7):
        used = of_kind(kind)
        how = used.backend.lose_all if loss == "lost" else engine_of(used).restart
        before_step(number, used, how)
        done = used.complete([prompt, "another"], eos_token_id=EOS, **options)
        assert_found(done[:3], expected)


def greedy(tokens: list[int], n_new: int) -> list[int]:
    """What greedy decoding adds, on the same logits."""
    found = list(tokens)
    for _ in range(n_new):
        found.append(int(flat_logits(found, 0).argmax()))
    return found[len(tokens) :]


@pytest.mark.parametrize("shares", [True, False], ids=["shared cells", "streams"])
@pytest.mark.parametrize("n_steps", [2, 5])
def test_texts_that_begin_as_a_beam_does(n_steps: int, shares: bool) -> None:
    """They may wait for that beam to compute its last token, and copy it then: but it may have
    become a copy of another one by that time."""
    used = model(n_batch=256)
    used.backend.can_share_cells = shares
    engine, builder = engine_of(used), used._requests
    options: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 12}
    searched = builder.from_texts(text_arguments(PROMPTS[1:2], **options, eos_token_id=EOS))
    engine.submit(searched.request)
    for _ in range(n_steps):
        engine.step()
    prompts = [
        [*each.tokens[: each.n_tokens].tolist(), 65 + i]
        for i, each in enumerate(searched.request.sequences)
    ]
    plain = builder.from_texts(text_arguments(prompts, max_new_tokens=5, eos_token_id=[]))
    engine.submit(plain.request)
    while not engine.idle:
        engine.step()
    assert_found(results.completions(searched), reference(PROMPTS[1], **options))
    for prompt, done in zip(prompts, results.completions(plain), strict=True):
        assert done.token_ids == greedy(prompt, 5)


def test_beams_start_together() -> None:
    """While others leave too few places for all of a prompt's beams, none of them takes one."""
    used = model()
    engine, builder = engine_of(used), used._requests
    plain = builder.from_texts(text_arguments(["a"] * 6, max_new_tokens=4, eos_token_id=[]))
    searched = builder.from_texts(text_arguments(["b"], num_beams=4, max_new_tokens=3))
    engine.submit(plain.request)
    engine.submit(searched.request)
    engine.step()
    assert all(each.seq_id is not None for each in plain.request.sequences)
    assert all(each.seq_id is None for each in searched.request.sequences)
    while not engine.idle:
        engine.step()
    assert results.completions(searched)[0].token_ids


def test_completions_as_they_are_ready() -> None:
    used = model()
    options: dict[str, Any] = {"num_beams": 2, "num_return_sequences": 2, "max_new_tokens": 8}
    whole = used.complete(PROMPTS, **options)
    found = dict(used.complete_iter(PROMPTS, **options))
    assert [found[i].token_ids for i in range(6)] == [each.token_ids for each in whole]
    cancel = threading.Event()
    cancel.set()
    left = dict(used.complete_iter(PROMPTS, cancel=cancel, **options))
    assert {each.finish_reason for each in left.values()} == {"cancelled"}


# --- generate() ---


def test_generate_returns_transformers_shapes() -> None:
    """Rows are prompt * beams in scores, prompt * num_return_sequences in sequences."""
    used = model()
    inputs = used.tokenizer(["ab", "abcde"], padding=True, return_tensors="np")
    out = used.generate(
        inputs.input_ids,
        inputs.attention_mask,
        num_beams=3,
        num_return_sequences=2,
        max_new_tokens=6,
        eos_token_id=EOS,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
    )
    n_new = out.beam_indices.shape[1]
    assert out.sequences.shape == (4, 5 + n_new)
    assert out.sequences_scores.shape == (4,)
    assert len(out.scores) == len(out.logits)
    assert {step.shape for step in (*out.scores, *out.logits)} == {(6, N_VOCAB)}
    for index, prompt in enumerate(["ab", "abcde"]):
        texts = reference(prompt, num_beams=3, num_return_sequences=2, max_new_tokens=6)
        for row, text in enumerate(texts, start=2 * index):
            n = len(text.token_ids)
            assert out.sequences[row, 5 : 5 + n].tolist() == text.token_ids
            own = out.beam_indices[row]
            assert own[:n].tolist() == [3 * index + beam for beam in text.beams]
            assert (own[n:] == -1).all()
    found = used.compute_transition_scores(out.sequences, out.scores, out.beam_indices)
    lengths = (out.beam_indices >= 0).sum(axis=1)
    np.testing.assert_allclose(found.sum(axis=1) / lengths, out.sequences_scores, atol=1e-5)


def test_generate_without_scores() -> None:
    out = model().generate([[65]], num_beams=2, max_new_tokens=3, return_dict_in_generate=True)
    assert (out.sequences_scores, out.scores, out.logits) == (None, None, None)
    assert out.beam_indices.shape == (1, out.sequences.shape[1] - 1)
    plain = model().generate([[65]], num_beams=2, max_new_tokens=3)
    np.testing.assert_array_equal(plain, out.sequences)


# --- refused before anything runs ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, "num_beams must be between 1 and 256, got 0"),
        ({"num_beams": 2.5}, "num_beams must be an integer"),
        ({"num_beams": 2, "early_stopping": "always"}, "must be True, False or 'never', got"),
        ({"num_beams": 2, "early_stopping": 2}, "must be True, False or 'never', got 2"),
        (
            {"num_beams": 2, "length_penalty": 11},
            "length_penalty must be a number between -10 and 10",
        ),
        ({"num_beams": 2, "length_penalty": float("nan")}, "length_penalty"),
        (
            {"num_beams": 2, "num_return_sequences": 3},
            "num_return_sequences=3 must be at most num_beams, which is 2",
        ),
        ({"num_beams": 9}, "num_beams=9 must be at most max_sequences, which is 8"),
        ({"num_beams": 2, "do_sample": True, "seed": [1, 2, 3]}, "seed has 3 entries for 1"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    used = model()
    with pytest.raises(ValueError, match=message):
        used.complete(["abc"], **options)
    with pytest.raises(ValueError, match=message):
        used.generate([[65]], **options)
    assert not used.backend.calls


def test_beams_that_do_not_fit_the_memory() -> None:
    used = model(backend=FakeBackend(budget=100))
    with pytest.raises(KvBudgetError, match="4 sequences of 43 tokens"):
        used.complete("abc", num_beams=4, max_new_tokens=40)
    assert not used.backend.calls


@pytest.mark.parametrize("n_prompts", [1, 3])
def test_beams_that_fit_because_they_share_cells(n_prompts: int) -> None:
    """A long prompt is there once for all its beams; with little memory, prompts run in turn."""
    prompts = [letter * 100 for letter in "abc"[:n_prompts]]
    options: dict[str, Any] = {"num_beams": 4, "max_new_tokens": 20}
    used = model(backend=FakeBackend(budget=256, n_batch=64))
    done = used.complete(prompts, eos_token_id=EOS, **options)
    for prompt, each in zip(prompts, done, strict=True):
        assert_found([each], reference(prompt, **options))


def test_prompts_with_options_of_their_own() -> None:
    configs = [GenerationConfig(num_beams=2), GenerationConfig(num_beams=2, max_new_tokens=3)]
    with pytest.raises(ValueError, match="the prompts of a call with beams must have the same"):
        model().complete(["a", "b"], generation_config=configs)
    same = [GenerationConfig(num_beams=2, max_new_tokens=3)] * 2
    assert len(model().complete(["a", "b"], generation_config=same)) == 2


def test_beams_cannot_be_streamed() -> None:
    used = model()
    with pytest.raises(ValueError, match="num_beams=2 cannot be streamed"):
        used.stream("abc", num_beams=2)

    class Streamer:
        def put(self, _: Any) -> None: ...

        def end(self) -> None: ...

    with pytest.raises(ValueError, match="num_beams=2 cannot be streamed"):
        used.generate([[65]], num_beams=2, streamer=Streamer())
    assert not used.backend.calls


def test_options_of_beams_alone_have_no_effect() -> None:
    with pytest.warns(UserWarning, match="length_penalty has no effect without num_beams"):
        model().complete("abc", length_penalty=2.0, max_new_tokens=2)


def test_beams_do_not_sample_by_the_files_defaults() -> None:
    """A search is asked for by name; sampling options of the model's file are not."""
    used = model()
    used.backend.sampling_defaults = {"temperature": 0.5}
    options: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 6}
    assert_found([used.complete("abc", eos_token_id=EOS, **options)], reference("abc", **options))
