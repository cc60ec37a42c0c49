"""choose() and classify() against sums of score(), on a model of bytes and on tiny real ones."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localgen import ChoiceScores, ContextFullError, DecodeError, LocalModel
from localgen.generation import scored_prompts
from localgen.generation.choosing import softmax
from tests.fakes import BOS, FakeBackend, FakeModel, fake_model

PROMPT = "a question that is long enough to share?"
CHOICES = ["yes", "no", "nothing", "nothing at all", "maybe"]


def summed(model: LocalModel, prompt: str, choice: str) -> float:
    """The slow way: all tokens of both scored, and those of the choice added up."""
    return float(model.score(prompt + choice)[len(prompt) - 1 :].sum())


def logprobs(scores: ChoiceScores) -> list[float]:
    return [choice.logprob for choice in scores.choices]


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("can_truncate", [False, True])
def test_log_probabilities_are_sums_of_score(*, can_truncate: bool, deterministic: bool) -> None:
    model = fake_model(can_truncate=can_truncate, deterministic=deterministic)
    found = model.choose(PROMPT, CHOICES)
    expected = [summed(model, PROMPT, choice) for choice in CHOICES]
    assert logprobs(found) == pytest.approx(expected, abs=1e-3)
    assert [choice.token_ids for choice in found.choices] == [tuple(c.encode()) for c in CHOICES]
    assert found.text == CHOICES[int(np.argmax(expected))]


def test_probabilities_are_the_softmax_of_what_was_asked_for() -> None:
    model = fake_model()
    sums = np.array([summed(model, PROMPT, choice) for choice in CHOICES])
    free = np.array([float(model.score([BOS, *each.encode()]).sum()) for each in CHOICES])
    other = np.array([summed(model, "Answer?", choice) for choice in CHOICES])
    lengths = [len(choice) for choice in CHOICES]
    for options, scores in [
        ({}, sums),
        ({"normalization": "mean"}, sums / lengths),
        ({"normalization": "unconditional"}, sums - free),
        ({"normalization": "unconditional", "unconditional_prompt": "Answer?"}, sums - other),
    ]:
        found = model.choose(PROMPT, CHOICES, **options)  # type: ignore[arg-type]
        weights = np.exp(scores - scores.max())
        assert list(found.probabilities.values()) == pytest.approx(
            (weights / weights.sum()).tolist(), abs=1e-4
        )
        assert math.fsum(found.probabilities.values()) == pytest.approx(1, abs=1e-12)
        assert found.best.score == max(choice.score for choice in found.choices)


def test_the_order_of_choices_does_not_matter() -> None:
    forward = fake_model().choose(PROMPT, CHOICES).probabilities
    backward = fake_model().choose(PROMPT, CHOICES[::-1]).probabilities
    assert forward == pytest.approx(backward, rel=1e-9)


def test_texts_together_are_as_one_by_one() -> None:
    texts = [f"text number {number}, of its own" for number in range(9)]
    together = fake_model().classify(texts, CHOICES)
    for text, found in zip(texts, together, strict=True):
        alone = fake_model().classify(text, CHOICES)
        assert logprobs(found) == pytest.approx(logprobs(alone), abs=1e-4)


def test_what_is_scored_follows_the_template() -> None:
    model = fake_model()
    found = model.classify(
        "some {label} text",
        CHOICES,
        template="T: {text}\nL: {label};",
        instruction="Label each text.",
    )
    prompt = "Label each text.\n\nT: some {label} text\nL: "
    expected = [summed(model, prompt, f"{label};") for label in CHOICES]
    assert logprobs(found) == pytest.approx(expected, abs=1e-3)
    assert [choice.text for choice in found.choices] == CHOICES


# --- how much is computed ---


def test_a_prompt_is_computed_once_for_all_its_choices() -> None:
    model = fake_model(n_batch=64)
    found = model.choose(PROMPT, CHOICES)
    n_paths = len("ye") + len("nothing at al") + len("mayb")
    assert model.backend.n_decoded == len(PROMPT) + n_paths == found.stats.n_computed
    assert model.backend.count("decode") == 2
    assert found.stats.n_sequences == 3


def test_choices_of_one_token_take_one_pass() -> None:
    model = fake_model(n_batch=64)
    model.choose(PROMPT, [chr(97 + number) for number in range(26)])
    assert (model.backend.count("decode"), model.backend.n_decoded) == (1, len(PROMPT))


def test_more_choices_than_sequences_compute_the_prompt_once() -> None:
    """Those that wait for a seq_id continue from what is cached; its last token gives logits."""
    model = fake_model(n_batch=64, max_sequences=2)
    choices = [f"{letter}!" for letter in "abcdefgh"]
    model.choose(PROMPT, choices)
    assert model.backend.n_decoded <= len(PROMPT) + 2 * len(choices)


def test_an_instruction_is_computed_once_for_all_texts() -> None:
    model = fake_model(n_batch=64)
    instruction = "An instruction of many words, which all texts have in front of them."
    texts = [f"text {letter}" for letter in "abcdef"]
    model.classify(texts, ["x", "y"], instruction=instruction)
    n_each = len("Text: text a\nLabel: ") + len("xy")
    assert model.backend.n_decoded <= len(instruction) + len("\n\n") + n_each * len(texts)


def test_another_call_reuses_the_prompt() -> None:
    model = fake_model(n_batch=64)
    first = model.choose(PROMPT, CHOICES)
    before = model.backend.n_decoded
    again = model.choose(PROMPT, CHOICES)
    assert again.stats.n_cached == len(PROMPT) - 1
    assert model.backend.n_decoded - before < 30
    assert logprobs(again) == pytest.approx(logprobs(first), abs=1e-4)


def test_many_choices_are_scored_in_bounded_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scored_prompts, "MOST_SEQUENCES", 5)
    model = fake_model(n_batch=64)
    choices = [f"{a}{b}." for a in "abcd" for b in "efgh"]
    found = model.choose(PROMPT, choices)
    expected = [summed(model, PROMPT, choice) for choice in choices]
    assert logprobs(found) == pytest.approx(expected, abs=1e-3)
    assert found.stats.n_sequences == 16


def test_the_same_choices_without_a_prompt_are_computed_once() -> None:
    model = fake_model(n_batch=64)
    model.classify(["a", "b", "c"], ["xyz"], normalization="unconditional")
    assert model.backend.n_decoded == 3 * len("Text: a\nLabel: xyz") + len("Bxyz")


# --- whoever calls ---


def test_awaited_is_the_same() -> None:
    async def both(model: FakeModel) -> tuple[ChoiceScores, list[ChoiceScores]]:
        return (
            await model.achoose(PROMPT, CHOICES),
            await model.aclassify(["a text"], CHOICES, normalization="mean"),
        )

    chosen, (classified,) = asyncio.run(both(fake_model()))
    assert logprobs(chosen) == pytest.approx(logprobs(fake_model().choose(PROMPT, CHOICES)))
    again = fake_model().classify("a text", CHOICES, normalization="mean")
    assert classified.probabilities == pytest.approx(again.probabilities)


def test_a_generation_beside_it_is_not_disturbed() -> None:
    expected = fake_model().complete("a text", max_new_tokens=30, do_sample=False).text

    async def together(model: FakeModel) -> Any:
        return await asyncio.gather(
            model.acomplete("a text", max_new_tokens=30, do_sample=False),
            model.achoose(PROMPT, CHOICES),
        )

    done, chosen = asyncio.run(together(fake_model()))
    assert done.text == expected
    assert logprobs(chosen) == pytest.approx(logprobs(fake_model().choose(PROMPT, CHOICES)))


# --- what cannot be scored ---


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.choose(PROMPT, []), ValueError, "choices is empty"),
        (lambda m: m.choose(PROMPT, ["a", ""]), ValueError, "choice 1 is empty"),
        (lambda m: m.choose(PROMPT, ["a", "b", "a"]), ValueError, "choices 0 and 2 are equal"),
        (lambda m: m.choose(PROMPT, "ab"), TypeError, "choices must be a list"),
        (lambda m: m.choose(PROMPT, [1]), TypeError, "got 1 at index 0"),
        (lambda m: m.choose("", ["a"]), ValueError, "the prompt is empty"),
        (lambda m: m.choose(PROMPT, ["a"], normalization="max"), ValueError, "normalization"),
        (
            lambda m: m.choose(PROMPT, ["a"], unconditional_prompt="x"),
            ValueError,
            "needs normalization='unconditional'",
        ),
        (lambda m: m.choose(PROMPT, ["a", "b" * 512]), ContextFullError, "prompt with choice 1"),
        (lambda m: m.classify([], ["a"]), ValueError, "texts is empty"),
        (lambda m: m.classify([1], ["a"]), TypeError, "got 1 at index 0"),
        (lambda m: m.classify("a", ["a", "a"]), ValueError, "labels 0 and 1 are equal"),
        (lambda m: m.classify("a", ["b"], template="{text}"), ValueError, "template must have"),
        (
            lambda m: m.classify("a", ["b"], template="{label}{text}"),
            ValueError,
            "template must have",
        ),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(
    call: Any, error: type[Exception], message: str
) -> None:
    model = fake_model()
    with pytest.raises(error, match=message):
        call(model)
    assert not model.backend.count("decode")


def test_logits_that_are_not_finite_are_an_error() -> None:
    class Broken(FakeBackend):
        def decode(self, *args: Any) -> Any:
            logits = super().decode(*args)
            logits[:, 3] = np.nan
            return logits

    with pytest.raises(DecodeError, match="not finite"):
        fake_model(backend=Broken()).choose(PROMPT, CHOICES)


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=20))
def test_probabilities_add_up_to_one(scores: list[float]) -> None:
    assert math.fsum(softmax(np.array(scores))) == pytest.approx(1, abs=1e-12)


# --- tiny models ---


@pytest.mark.slow
def test_a_tiny_model_agrees_with_score(tiny: LocalModel) -> None:
    """Words that make one token with the space at the prompt's end, and others that do not."""
    prompt, choices = "hello the ", ["cat", "the cat", "xy", "cat hello the cat"]
    found = tiny.choose(prompt, choices)
    alone = tiny.tokenizer.encode(prompt)
    for choice in found.choices:
        whole = tiny.tokenizer.encode(prompt + choice.text)
        n_start = found.stats.n_prompt
        assert whole[:n_start] == alone[:n_start]
        assert list(choice.token_ids) == whole[n_start:]
        assert choice.logprob == pytest.approx(
            float(tiny.score(whole)[n_start - 1 :].sum()), abs=2e-3
        )
