"""The ``openai`` package's ``client.responses``, as programs use it."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from pydantic import BaseModel

pytestmark = pytest.mark.slow

ADD: Any = {
    "type": "function",
    "name": "add",
    "description": "Add two numbers.",
    "parameters": {
        "type": "object",
        "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
        "required": ["x", "y"],
        "additionalProperties": False,
    },
    "strict": True,
}


class City(BaseModel):
    name: str
    population: int


def test_a_text_is_answered(client: openai.OpenAI, model: str) -> None:
    answer = client.responses.create(model=model, input="Say hello.", max_output_tokens=24)
    assert answer.output_text
    assert answer.store is False  # type: ignore[attr-defined]
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


def test_a_short_limit_makes_it_incomplete(client: openai.OpenAI, model: str) -> None:
    answer = client.responses.create(model=model, input="Count to 100.", max_output_tokens=3)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.usage is not None
    assert answer.usage.output_tokens == 3


def test_the_stream_has_the_text_of_its_response(client: openai.OpenAI, model: str) -> None:
    ends = {"structured_outputs": {"regex": "([a-z]{2,6} ){3}"}}
    with client.responses.stream(model=model, input="Hi", extra_body=ends) as stream:
        pieces = [e.delta for e in stream if e.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert pieces
    assert "".join(pieces) == final.output_text


def test_a_stream_without_the_helper_is_numbered(client: openai.OpenAI, model: str) -> None:
    events = list(
        client.responses.create(model=model, input="Hi", max_output_tokens=4, stream=True)
    )
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type in {"response.completed", "response.incomplete"}


def test_a_class_is_parsed(client: openai.OpenAI, model: str) -> None:
    answer = client.responses.parse(
        model=model,
        instructions="Answer as JSON.",
        input="A large city.",
        text_format=City,
        max_output_tokens=100,
        temperature=0,
    )
    assert isinstance(answer.output_parsed, City)


def test_a_class_is_parsed_from_a_stream(client: openai.OpenAI, model: str) -> None:
    with client.responses.stream(
        model=model, input="A large city.", text_format=City, max_output_tokens=100, temperature=0
    ) as stream:
        assert isinstance(stream.get_final_response().output_parsed, City)


def test_any_json_object(client: openai.OpenAI, model: str) -> None:
    answer = client.responses.create(
        model=model,
        input="A city as JSON, with its name.",
        text={"format": {"type": "json_object"}},
        max_output_tokens=100,
        temperature=0,
    )
    if answer.status == "completed":
        assert isinstance(json.loads(answer.output_text), dict)


def test_tools_there_and_back(client: openai.OpenAI, model: str) -> None:
    history: list[Any] = [{"role": "user", "content": "What is 2 + 3?"}]
    first = client.responses.create(
        model=model,
        input=history,
        tools=[ADD],
        tool_choice={"type": "function", "name": "add"},
        parallel_tool_calls=False,
        max_output_tokens=100,
        temperature=0,
    )
    (call,) = first.output
    assert call.type == "function_call"
    assert call.name == "add"
    assert set(json.loads(call.arguments)) == {"x", "y"}
    history += first.output
    history.append({"type": "function_call_output", "call_id": call.call_id, "output": "5"})
    second = client.responses.create(model=model, input=history, tools=[ADD], max_output_tokens=20)
    assert second.output_text or second.output


def test_arguments_come_in_pieces(client: openai.OpenAI, model: str) -> None:
    with client.responses.stream(
        model=model,
        input="What is 2 + 3?",
        tools=[ADD],
        tool_choice="required",
        max_output_tokens=200,
        temperature=0,
    ) as stream:
        pieces: dict[str, str] = {}
        for event in stream:
            if event.type == "response.function_call_arguments.delta":
                pieces[event.item_id] = pieces.get(event.item_id, "") + event.delta
        final = stream.get_final_response()
    calls = [item for item in final.output if item.type == "function_call"]
    assert calls
    assert {call.id: call.arguments for call in calls} == pieces


def test_the_answer_goes_back_as_it_came(client: openai.OpenAI, model: str) -> None:
    history: list[Any] = [{"role": "user", "content": "Hi"}]
    history += client.responses.create(model=model, input=history, max_output_tokens=8).output
    history.append({"role": "user", "content": "And?"})
    assert client.responses.create(model=model, input=history, max_output_tokens=8).output


def test_logprobs(client: openai.OpenAI, model: str) -> None:
    answer = client.responses.create(
        model=model,
        input="Hi",
        include=["message.output_text.logprobs"],
        top_logprobs=2,
        max_output_tokens=6,
        temperature=0,
    )
    message: Any = answer.output[0]
    (part,) = message.content
    assert "".join(each.token for each in part.logprobs).strip() == part.text.strip()
    for each in part.logprobs:
        assert each.logprob <= 0
        assert len(each.top_logprobs) == 2


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("store", True),
        ("previous_response_id", "resp_1"),
        ("background", True),
        ("conversation", "conv_1"),
        ("truncation", "auto"),
        ("max_tool_calls", 3),
    ],
)
def test_what_needs_a_store_is_refused_by_name(
    client: openai.OpenAI, model: str, param: str, value: Any
) -> None:
    options: Any = {param: value}
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=model, input="Hi", **options)
    assert caught.value.param == param


def test_an_unknown_field_is_refused_by_name(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=model, input="Hi", extra_body={"max_tokens": 3})
    assert caught.value.param == "max_tokens"


def test_a_wrong_item_is_refused_with_its_place(client: openai.OpenAI, model: str) -> None:
    given: Any = [{"role": "user", "content": "Hi"}, {"type": "function_call", "name": "add"}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=model, input=given)
    assert caught.value.param in {"input[1].call_id", "input[1].arguments"}


async def _one(client: openai.AsyncOpenAI, model: str) -> str:
    answer = await client.responses.create(model=model, input="Hi", max_output_tokens=8)
    return answer.output_text


def test_the_async_client(base_url: str, model: str) -> None:
    import asyncio

    async def several() -> list[str]:
        async with openai.AsyncOpenAI(base_url=base_url, api_key="none") as client:
            return await asyncio.gather(*(_one(client, model) for _ in range(3)))

    assert all(asyncio.run(several()))
