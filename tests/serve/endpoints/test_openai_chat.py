"""The openai package against a server on loopback: what it parses is what the model wrote."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("openai")

import openai

from tests.fakes import constrain, fake_model
from tests.generation.replying import replying_model
from tests.serve.live import listening

pytestmark = pytest.mark.slow  # the package asks for the processor's name in a child process

CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Lima"}}</tool_call>'
REPLY = f"<think>Hm.</think>\n\nI look.\n{CALL}"
ASK: list[Any] = [{"role": "user", "content": "Lima?"}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Return the weather.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
                "additionalProperties": False,
            },
            "strict": True,
        },
    }
]


def client_of(url: str) -> Any:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


@pytest.fixture
def client() -> Iterator[Any]:
    """A client of a model that thinks, answers, and calls a tool; then answers "Sunny."."""
    with listening(replying_model(REPLY, "Sunny.")) as (url, _), client_of(url) as client:
        yield client


def test_an_answer_and_its_stream(client: Any) -> None:
    done = client.chat.completions.create(model="fake", messages=ASK, temperature=0)
    message = done.choices[0].message
    assert (message.content, message.reasoning_content) == ("I look.", "Hm.")
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
    with client.chat.completions.stream(
        model="fake", messages=ASK, temperature=0, stream_options={"include_usage": True}
    ) as stream:
        kinds = {event.type for event in stream}
        streamed = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    own = streamed.choices[0].message
    assert (own.content, own.reasoning_content) == (message.content, message.reasoning_content)
    assert own.tool_calls[0].function.arguments == message.tool_calls[0].function.arguments
    assert streamed.choices[0].finish_reason == "tool_calls"
    assert streamed.usage.completion_tokens == done.usage.completion_tokens


def test_a_round_of_tools(client: Any) -> None:
    """The message with the call goes back as the client has it, null fields included."""
    options = {"model": "fake", "temperature": 0, "tools": TOOLS}
    done = client.chat.completions.create(messages=ASK, tool_choice="none", **options)
    message = done.choices[0].message
    (call,) = message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "22 degrees"}
    chat = [*ASK, message, result]
    again = client.chat.completions.create(messages=chat, tool_choice="none", **options)
    assert again.choices[0].message.content == "Sunny."
    assert again.choices[0].finish_reason == "stop"


def test_the_result_of_an_unknown_call_is_refused(client: Any) -> None:
    chat = [*ASK, {"role": "tool", "tool_call_id": "x", "content": "22 degrees"}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="fake", messages=chat)
    assert caught.value.param == "messages[1].tool_call_id"


def test_errors_are_the_clients_own(client: Any) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="other", messages=ASK)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as unknown:
        client.chat.completions.create(model="fake", messages=ASK, extra_body={"min_pp": 1})
    assert (unknown.value.param, unknown.value.code) == ("min_pp", "unknown_parameter")
    assert "did you mean min_p?" in str(unknown.value)


def test_choices_and_logprobs() -> None:
    with listening(fake_model()) as (url, _), client_of(url) as client:
        done = client.completions.create(
            model="fake", prompt=["abc", "d"], n=2, max_tokens=3, logprobs=2, seed=5
        )
        assert [each.index for each in done.choices] == [0, 1, 2, 3]
        for choice in done.choices:
            assert "".join(choice.logprobs.tokens) == choice.text
            assert all(len(each) == 2 for each in choice.logprobs.top_logprobs)
        assert done.usage.prompt_tokens == 4
        chunks = list(
            client.completions.create(
                model="fake", prompt=["abc", "d"], n=2, max_tokens=3, seed=5, stream=True
            )
        )
        for choice in done.choices:
            own = [each.choices[0] for each in chunks if each.choices[0].index == choice.index]
            assert "".join(each.text for each in own) == choice.text


def test_logprobs_of_a_chat() -> None:
    model = replying_model("Sunny.")
    options: dict[str, Any] = {"logprobs": True, "top_logprobs": 3, "temperature": 0}
    with listening(model) as (url, _), client_of(url) as client:
        done = client.chat.completions.create(model="fake", messages=ASK, **options)
        found = done.choices[0].logprobs.content
        assert b"".join(bytes(each.bytes) for each in found) == b"Sunny."
        assert all(len(each.top_logprobs) == 3 for each in found)
        chunks = client.chat.completions.create(model="fake", messages=ASK, stream=True, **options)
        streamed = [
            each
            for chunk in chunks
            if chunk.choices[0].logprobs
            for each in chunk.choices[0].logprobs.content
        ]
        assert streamed == found


def test_a_text_that_is_constrained() -> None:
    model = fake_model()
    constrain(model)
    body = {"structured_outputs": {"choice": ["spring", "summer"]}}
    with listening(model) as (url, _), client_of(url) as client:
        done = client.completions.create(model="fake", prompt="?", extra_body=body)
        assert done.choices[0].text in ("spring", "summer")
        assert done.choices[0].finish_reason == "stop"
