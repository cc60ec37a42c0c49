"""What the server refuses becomes the ``openai`` package's own exceptions."""

from __future__ import annotations

from typing import Any

import openai
import pytest

pytestmark = pytest.mark.slow

HI: Any = [{"role": "user", "content": "Hi"}]


def test_models_are_listed_and_found(client: openai.OpenAI, model: str) -> None:
    assert model in [each.id for each in client.models.list()]
    assert client.models.retrieve(model).id == model


def test_an_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nothing", messages=HI)
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("param", "value"), [("temperature", -1), ("n", 0), ("max_tokens", -1), ("audio", {})]
)
def test_a_bad_value_names_its_field(
    client: openai.OpenAI, model: str, param: str, value: Any
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=HI, extra_body={param: value})
    assert caught.value.param == param


def test_a_prompt_that_is_too_long(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=model, prompt="word " * 9000, max_tokens=1)
    assert caught.value.code == "context_length_exceeded"


def test_an_unknown_path(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.get("/nothing", cast_to=object)
