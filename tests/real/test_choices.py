"""choose() and classify() on real weights: sums of score(), and answers that are right."""

from __future__ import annotations

import pytest

from localgen import LocalModel

EXAMPLES = """Text: I love this place.
Label: positive

Text: I hate this place.
Label: negative

Text: What a great day.
Label: positive"""
TEXTS = ["The food was wonderful.", "I waited two hours and left."]
LABELS = ["positive", "negative", "positive or negative"]


@pytest.mark.parametrize("prompt_end", ["", " "])
def test_log_probabilities_are_sums_of_score(f16: LocalModel, prompt_end: str) -> None:
    """Also where the prompt ends with the space of the words after it."""
    prompt = f"Question: What is the capital of Italy?\nAnswer:{prompt_end}"
    space = "" if prompt_end else " "
    choices = [f"{space}{word}" for word in ("Paris", "Rome", "Rome, of course", "San Marino")]
    found = f16.choose(prompt, choices)
    for choice in found.choices:
        whole = f16.tokenizer.encode(prompt + choice.text)
        assert tuple(whole[found.stats.n_prompt :]) == choice.token_ids
        expected = f16.score(whole)[found.stats.n_prompt - 1 :].sum()
        assert choice.logprob == pytest.approx(float(expected), abs=0.05)
    assert found.text == f"{space}Rome"
    assert sum(found.probabilities.values()) == pytest.approx(1)


def test_texts_together_are_as_one_by_one(f16: LocalModel) -> None:
    together = f16.classify(TEXTS, LABELS, instruction=EXAMPLES)
    assert [found.text for found in together] == ["positive", "negative"]
    for text, found in zip(TEXTS, together, strict=True):
        alone = f16.classify(text, LABELS, instruction=EXAMPLES)
        assert found.probabilities == pytest.approx(alone.probabilities, abs=0.02)
