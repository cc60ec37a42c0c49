"""/v1/chat/completions: its answers, its streams, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes import spelling
from tests.generation.replying import replying_model
from tests.serve.conftest import Serve, chunks_of

CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Lima"}}</tool_call>'
REPLY = f"<think>Hm.</think>\n\nI look.\n{CALL}"
ASK = [{"role": "user", "content": "Lima?"}]
PATH = "/v1/chat/completions"


def test_an_answer_has_text_reasoning_and_calls(serve: Serve) -> None:
    client = serve(replying_model(REPLY))
    answer = client.post(PATH, json={"messages": ASK, "temperature": 0}).json()
    (choice,) = answer["choices"]
    message = choice["message"]
    assert (message["content"], message["reasoning_content"]) == ("I look.", "Hm.")
    (call,) = message["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Lima"}'}
    assert choice["finish_reason"] == "tool_calls"
    assert answer["object"] == "chat.completion"
    assert answer["usage"]["total_tokens"] == sum(
        answer["usage"][name] for name in ("prompt_tokens", "completion_tokens")
    )


def test_a_stream_says_the_same_as_an_answer(serve: Serve) -> None:
    client = serve(replying_model(REPLY))
    body = {
        "messages": ASK,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    response = client.post(PATH, json=body)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    chunks = chunks_of(response.text)
    first, *rest, last = chunks
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] > 0
    assert {each["usage"] for each in chunks[:-1]} == {None}
    deltas = [each["choices"][0]["delta"] for each in rest]
    assert "".join(each.get("content", "") for each in deltas) == "I look."
    assert "".join(each.get("reasoning_content", "") for each in deltas) == "Hm."
    calls = [call for each in deltas for call in each.get("tool_calls", ())]
    assert (calls[0]["function"]["name"], calls[0]["index"]) == ("weather", 0)
    assert "".join(call["function"]["arguments"] for call in calls) == '{"city": "Lima"}'
    assert [each["choices"][0]["finish_reason"] for each in rest][-1] == "tool_calls"


def test_each_chunk_has_the_usage_so_far_if_asked_for(serve: Serve) -> None:
    """A client that leaves has it too."""
    client = serve(replying_model(REPLY))
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"messages": ASK, "temperature": 0, "stream": True, "stream_options": options}
    *chunks, last = chunks_of(client.post(PATH, json=body).text)
    counts = [each["usage"]["completion_tokens"] for each in chunks]
    assert counts == sorted(counts)
    assert counts[0] > 0
    assert chunks[-1]["usage"] == last["usage"]
    assert {each["usage"]["prompt_tokens"] for each in chunks} == {last["usage"]["prompt_tokens"]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_token": 5}, "max_token"),
        ({"temperature": "hot"}, "temperature"),
        ({"stream_options": {}}, "stream_options"),
        (
            {"stream": True, "stream_options": {"continuous_usage_stats": True}},
            "stream_options.continuous_usage_stats",
        ),
        ({"temperature": -1}, "temperature"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "wizard", "content": "Hi"}]}, "messages[0].role"),
        ({"messages": [*ASK, {"role": "user", "content": "a" * 2**20}]}, "messages"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"min_tokens": 9, "max_tokens": 5}, "min_tokens"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    serve: Serve, fields: dict[str, Any], param: str
) -> None:
    response = serve(replying_model(REPLY)).post(PATH, json={"messages": ASK, **fields})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_null_is_not_given(serve: Serve) -> None:
    from localgen.serve.schemas.chat import ChatRequest

    names = set(ChatRequest.model_fields) - {"messages"}
    body = {"messages": ASK, **dict.fromkeys(names), "temperature": 0}
    assert serve(replying_model("Hi.")).post(PATH, json=body).status_code == 200


def test_a_model_without_a_template_is_said(serve: Serve) -> None:
    from tests.fakes import fake_model

    response = serve(fake_model(spelling("a"))).post(PATH, json={"messages": ASK})
    assert response.status_code == 400
    assert "chat template" in response.json()["error"]["message"]
