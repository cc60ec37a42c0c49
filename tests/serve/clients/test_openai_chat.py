"""The ``openai`` package's ``client.chat.completions``, as programs use it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from pydantic import BaseModel

pytestmark = pytest.mark.slow

HI: Any = [{"role": "user", "content": "Say hello."}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Return the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Lima", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


class City(BaseModel):
    name: str
    population: int


def test_chat(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=HI, max_completion_tokens=16)
    (choice,) = answer.choices
    assert choice.message.content
    assert choice.finish_reason in {"stop", "length"}
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_has_the_text_of_an_answer_and_its_usage_last(
    client: openai.OpenAI, model: str
) -> None:
    only: Any = {"structured_outputs": {"choice": ["one, two, three"]}}
    given: Any = {"model": model, "messages": HI, "extra_body": only}
    whole = client.chat.completions.create(**given).choices[0].message.content
    chunks = client.chat.completions.create(
        **given, stream=True, stream_options={"include_usage": True}
    )
    text, usages = "", []
    for chunk in chunks:
        usages.append(chunk.usage)
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert text == whole == "one, two, three"
    assert usages[-1] is not None
    assert not any(usages[:-1])


def test_several_choices(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=HI, max_tokens=8, n=3, temperature=1.5, seed=1
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1


def test_a_stop_string(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Repeat: a b c d e"}],
        max_tokens=32,
        stop=[" "],
    )
    assert " " not in (answer.choices[0].message.content or "")


def test_logprobs(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=HI, max_tokens=5, logprobs=True, top_logprobs=3, temperature=0
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    for token in logprobs.content:
        assert len(token.top_logprobs) == 3
        assert token.logprob <= 0


def test_a_class_is_parsed(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.parse(
        model=model,
        messages=[{"role": "user", "content": "A large city, as JSON."}],
        response_format=City,
        max_completion_tokens=100,
        temperature=0,
    )
    assert isinstance(answer.choices[0].message.parsed, City)


def test_a_class_is_parsed_from_a_stream(client: openai.OpenAI, model: str) -> None:
    with client.chat.completions.stream(
        model=model,
        messages=[{"role": "user", "content": "A large city, as JSON."}],
        response_format=City,
        max_completion_tokens=100,
        temperature=0,
    ) as stream:
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, City)


def test_tools_there_and_back(client: openai.OpenAI, model: str) -> None:
    messages: list[Any] = [{"role": "user", "content": "How is the weather in Lima?"}]
    first = client.chat.completions.create(
        model=model,
        messages=messages,
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=100,
        temperature=0,
    )
    (choice,) = first.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert json.loads(call.function.arguments)["city"] in {"Lima", "Oslo"}
    messages += [
        choice.message,
        {"role": "tool", "tool_call_id": call.id, "content": "Sunny, 20 degrees."},
    ]
    second = client.chat.completions.create(
        model=model, messages=messages, tools=[WEATHER], max_tokens=20, temperature=0
    )
    assert second.choices[0].message.content or second.choices[0].message.tool_calls


def test_a_streamed_call_is_the_call(client: openai.OpenAI, model: str) -> None:
    with client.chat.completions.stream(
        model=model,
        messages=[{"role": "user", "content": "How is the weather in Lima?"}],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        max_tokens=100,
        temperature=0,
    ) as stream:
        final = stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert calls
    assert calls[0].id
    assert calls[0].function.name == "get_weather"
    assert json.loads(calls[0].function.arguments)["city"] in {"Lima", "Oslo"}


def test_the_async_client(base_url: str, model: str) -> None:
    async def text(client: openai.AsyncOpenAI) -> str:
        stream = await client.chat.completions.create(
            model=model, messages=HI, max_tokens=8, stream=True
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def several() -> list[str]:
        async with openai.AsyncOpenAI(base_url=base_url, api_key="none") as client:
            return await asyncio.gather(*(text(client) for _ in range(4)))

    assert all(asyncio.run(several()))


def test_a_stream_may_be_left_early(client: openai.OpenAI, model: str) -> None:
    stream = client.chat.completions.create(
        model=model, messages=HI, max_tokens=400, stream=True, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    stream.close()
    assert client.chat.completions.create(model=model, messages=HI, max_tokens=2).choices
