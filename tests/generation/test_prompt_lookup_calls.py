"""Calls with prompt_lookup_num_tokens: the same results in fewer passes, or an error that says why
not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from localgen import Completion, GenerationConfig
from localgen.engine import pass_costs
from tests.fakes import FakeBackend, fake_model

TEXT = "the quick brown fox jumps over the lazy dog. "
OPTIONS: list[dict[str, Any]] = [
    {"max_new_tokens": 40},
    {"max_new_tokens": 40, "stop_strings": ["over the"]},
    {"max_new_tokens": 30, "do_sample": True, "seed": 3, "temperature": 2.5, "logprobs": 2},
    {"max_new_tokens": 20, "token_healing": True, "min_new_tokens": 3},
    {"max_new_tokens": 20, "repetition_penalty": 1.1, "num_return_sequences": 2, "do_sample": True,
     "seed": 1},
]  # fmt: skip


def repeats(tokens: list[int]) -> int:
    return ord(TEXT[len(tokens) % len(TEXT)])


@pytest.fixture(autouse=True)
def _passes_cost_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drafted must not depend on the time that a test takes."""
    monkeypatch.setattr(pass_costs.PassCosts, "seconds", lambda self, n_tokens: 1.0)


def model(**config: Any) -> Any:
    return fake_model(repeats, **config)


def facts(done: Completion) -> tuple[Any, ...]:
    return done.text, done.token_ids, done.finish_reason, done.stop_match, done.logprobs


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_results_are_those_without(options: dict[str, Any]) -> None:
    prompts = [TEXT, TEXT[:30]]
    plain = model().complete(prompts, **options)
    drafted = model().complete(prompts, **options, prompt_lookup_num_tokens=8)
    assert list(map(facts, drafted)) == list(map(facts, plain))


def test_stats_count_drafts_and_passes() -> None:
    done = model().complete(TEXT, max_new_tokens=40, prompt_lookup_num_tokens=8)
    stats = done.stats
    assert stats.n_accepted > 20
    assert stats.n_drafted >= stats.n_accepted
    assert stats.n_passes == stats.n_new - stats.n_accepted
    assert stats.no_speculation_because is None
    plain = model().complete(TEXT, max_new_tokens=40).stats
    assert (plain.n_drafted, plain.n_accepted, plain.n_passes) == (0, 0, 40)


def test_stats_say_why_nothing_was_drafted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What matches nothing, and what matches but costs too much, are told apart."""
    options: dict[str, Any] = {"max_new_tokens": 9, "prompt_lookup_num_tokens": 8}
    apart = fake_model(lambda tokens: 65 + len(tokens) % 26).complete("!", **options).stats
    assert apart.no_speculation_because == "nothing earlier in the text ends like its last tokens"
    monkeypatch.setattr(pass_costs.PassCosts, "seconds", lambda self, n_tokens: float(n_tokens))
    costly = model().complete(TEXT, **options).stats
    assert costly.n_drafted == 0
    assert (costly.no_speculation_because or "").startswith("a pass with a draft would take longer")


def test_each_prompt_has_its_own_option() -> None:
    configs = [
        GenerationConfig(max_new_tokens=40, prompt_lookup_num_tokens=n) for n in (None, 3, 16)
    ]
    done = model().complete([TEXT] * 3, generation_config=configs)
    assert [each.stats.n_drafted > 0 for each in done] == [False, True, True]
    assert done[2].stats.n_passes < done[1].stats.n_passes < 40
    assert len({each.text for each in done}) == 1


def test_pieces_of_a_stream_are_the_text() -> None:
    options: dict[str, Any] = {"max_new_tokens": 40, "stop_strings": "fox"}
    stream = model().stream(TEXT, **options, prompt_lookup_num_tokens=8)
    assert "".join(stream) == model().complete(TEXT, **options).text
    assert stream.completion.stop_match == "fox"


def test_generate_returns_the_same_scores() -> None:
    options: dict[str, Any] = {
        "max_new_tokens": 20, "return_dict_in_generate": True, "output_scores": True,
    }  # fmt: skip
    ids = [list(TEXT.encode())]
    plain = model().generate(ids, **options)
    drafted = model().generate(ids, **options, prompt_lookup_num_tokens=5)
    assert np.array_equal(plain.sequences, drafted.sequences)
    assert all(map(np.array_equal, plain.scores, drafted.scores))


def test_a_streamer_gets_token_after_token() -> None:
    class Streamer:
        def __init__(self) -> None:
            self.put_ids: list[list[int]] = []

        def put(self, ids: Any) -> None:
            self.put_ids.append(np.ravel(ids).tolist())

        def end(self) -> None:
            """Nothing is left."""

    streamer = Streamer()
    ids = [list(TEXT.encode())]
    out = model().generate(ids, max_new_tokens=20, prompt_lookup_num_tokens=5, streamer=streamer)
    assert streamer.put_ids[1:] == [[each] for each in out[0, len(TEXT) :].tolist()]


def test_a_deterministic_model_says_why_it_has_no_drafts() -> None:
    done = model(deterministic=True).complete(TEXT, max_new_tokens=9, prompt_lookup_num_tokens=8)
    assert done.stats.n_drafted == 0
    assert done.stats.n_passes == 9
    assert "deterministic=True" in (done.stats.no_speculation_because or "")


def test_a_recurrent_model_says_why_it_has_no_drafts() -> None:
    recurrent = fake_model(repeats, can_truncate=False)
    done = recurrent.complete(TEXT, max_new_tokens=9, prompt_lookup_num_tokens=8)
    assert done.stats.n_drafted == 0
    assert "recurrent" in (done.stats.no_speculation_because or "")


@pytest.mark.parametrize("other", [{"num_beams": 2}, {"guidance_scale": 2.0}], ids=str)
def test_what_cannot_be_combined_is_refused_before_anything_runs(other: dict[str, Any]) -> None:
    backend = FakeBackend(repeats)
    with pytest.raises(ValueError, match="prompt_lookup_num_tokens=8 cannot be used with"):
        fake_model(backend=backend).complete(TEXT, prompt_lookup_num_tokens=8, **other)
    assert not backend.count("decode")


@pytest.mark.parametrize("name", ["logits_processor", "stopping_criteria"])
def test_functions_that_see_the_batch_are_refused(name: str) -> None:
    backend = FakeBackend(repeats)
    functions: dict[str, Any] = {name: [lambda ids, scores: scores]}
    with pytest.raises(ValueError, match=r"prompt_lookup_num_tokens=8 .* use complete\(\)"):
        fake_model(backend=backend).generate([[65]], prompt_lookup_num_tokens=8, **functions)
    assert not backend.count("decode")


def test_functions_of_complete_see_each_token() -> None:
    seen: list[int] = []

    def processor(ids: Any, scores: Any) -> Any:
        seen.append(len(np.ravel(ids)))
        return scores

    options: dict[str, Any] = {"max_new_tokens": 12, "prompt_lookup_num_tokens": 6}
    done = model().complete(TEXT, logits_processor=[processor], **options)
    assert seen == [len(TEXT) + i for i in range(12)]
    assert done.stats.n_passes < 12


@pytest.mark.parametrize("value", [0, -1, 1.5, "8", True])
def test_a_number_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="prompt_lookup_num_tokens"):
        GenerationConfig(prompt_lookup_num_tokens=value)


def test_a_size_without_lookup_has_no_effect_and_is_a_warning() -> None:
    with pytest.warns(UserWarning, match="max_matching_ngram_size has no effect without"):
        model().complete(TEXT, max_new_tokens=2, max_matching_ngram_size=3)
