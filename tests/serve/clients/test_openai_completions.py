"""The ``openai`` package's ``client.completions``, with what evaluation tools ask it for."""

from __future__ import annotations

from typing import Any

import openai
import pytest

pytestmark = pytest.mark.slow

PROMPT = "The capital of Peru is"


def test_a_prompt_is_continued(client: openai.OpenAI, model: str) -> None:
    answer = client.completions.create(
        model=model, prompt="1, 2, 3, 4,", max_tokens=3, temperature=0
    )
    assert answer.choices[0].text.startswith(" 5")
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 3


def test_several_prompts_streamed_and_whole(client: openai.OpenAI, model: str) -> None:
    only: Any = {"structured_outputs": {"choice": [" one, two"]}}
    given: Any = {"model": model, "prompt": [PROMPT, "1, 2, 3,"], "extra_body": only}
    whole = client.completions.create(**given)
    texts = ["", ""]
    for chunk in client.completions.create(**given, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [choice.text for choice in whole.choices] == [" one, two"] * 2


def test_echo_with_logprobs_scores_the_prompt(client: openai.OpenAI, model: str) -> None:
    answer = client.completions.create(
        model=model, prompt=PROMPT, max_tokens=0, echo=True, logprobs=2, temperature=0
    )
    (choice,) = answer.choices
    assert choice.text == PROMPT
    logprobs = choice.logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.token_logprobs is not None
    assert "".join(logprobs.tokens) == PROMPT
    assert logprobs.token_logprobs[0] is None
    assert all(each <= 0 for each in logprobs.token_logprobs[1:])


def test_token_ids_are_a_prompt(client: openai.OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt=[504, 3575], max_tokens=2)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 2
