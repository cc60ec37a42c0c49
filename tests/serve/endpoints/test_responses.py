"""/v1/responses: its answers, its streams, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import TypeAdapter

from localgen import DecodeError
from localgen.serve.schemas.response_output import ResponseObject
from localgen.serve.schemas.response_stream import ResponseEvent
from localgen.serve.schemas.responses import ResponsesRequest
from tests.generation.replying import replying_model
from tests.serve.conftest import Serve

CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Lima"}}</tool_call>'
REPLY = f"<think>Hm.</think>\n\nI look.\n{CALL}"
PATH = "/v1/responses"
RESPONSES: TypeAdapter[Any] = TypeAdapter(ResponseObject)
EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseEvent)


def events(text: str) -> list[Any]:
    """The data of each event, each of which is named after its type."""
    found = []
    for each in text.strip().split("\n\n"):
        name, data = each.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def without_ids(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in item.items() if name not in ("id", "call_id")}
        for item in items
    ]


def test_an_answer_has_reasoning_text_and_calls(serve: Serve) -> None:
    client = serve(replying_model(REPLY))
    answer = client.post(PATH, json={"input": "Lima?", "temperature": 0}).json()
    RESPONSES.validate_python(answer, strict=True)
    reasoning, message, call = answer["output"]
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "Hm."}]
    assert message["content"][0]["text"] == "I look."
    assert (call["name"], call["arguments"]) == ("weather", '{"city": "Lima"}')
    assert answer["status"] == "completed"
    assert (answer["model"], answer["store"]) == ("fake", False)
    usage = answer["usage"]
    assert usage["output_tokens_details"]["reasoning_tokens"] > 0
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_a_stream_says_the_same_as_an_answer(serve: Serve) -> None:
    client = serve(replying_model(REPLY))
    body = {"input": "Lima?", "temperature": 0}
    whole = client.post(PATH, json=body).json()
    response = client.post(PATH, json={**body, "stream": True})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    found = events(response.text)
    for each in found:
        EVENTS.validate_python(each, strict=True)
    assert found[-1]["type"] == "response.completed"
    assert without_ids(found[-1]["response"]["output"]) == without_ids(whole["output"])


def test_the_items_of_an_answer_are_input(serve: Serve) -> None:
    client = serve(replying_model(REPLY, "Sunny."))
    output = client.post(PATH, json={"input": "Lima?", "temperature": 0}).json()["output"]
    result = {"type": "function_call_output", "call_id": output[2]["call_id"], "output": "Sunny."}
    history = [{"role": "user", "content": "Lima?"}, *output, result]
    response = client.post(PATH, json={"input": history, "temperature": 0})
    assert response.json()["output"][0]["content"][0]["text"] == "Sunny."


def test_logprobs_are_of_the_text_alone(serve: Serve) -> None:
    client = serve(replying_model(REPLY))
    body = {"input": "Lima?", "temperature": 0, "top_logprobs": 2}
    message = client.post(PATH, json=body).json()["output"][1]
    (part,) = message["content"]
    text = "".join(each["token"] for each in part["logprobs"])
    assert "I look." in text
    assert "think" not in text
    assert all(len(each["top_logprobs"]) == 2 for each in part["logprobs"])


def test_what_was_given_is_in_the_answer(serve: Serve) -> None:
    given = {
        "instructions": "Be brief.",
        "metadata": {"run": "7"},
        "max_output_tokens": 300,
        "user": "u",
        "text": {"format": {"type": "json_object"}, "verbosity": "medium"},
        "top_p": 0.3,
    }
    answer = (
        serve(replying_model("{}"))
        .post(PATH, json={"input": "Hi", "temperature": 0, **given})
        .json()
    )
    assert {name: answer[name] for name in given} == given


@pytest.mark.parametrize(
    ("of_file", "given", "in_use"),
    [
        ({}, {}, (1.0, 1.0)),
        ({"temperature": 0.6, "top_p": 0.9}, {}, (0.6, 0.9)),
        ({"temperature": 0.6, "top_p": 0.9}, {"temperature": 0.2}, (0.2, 0.9)),
        ({"temperature": 0.6, "top_p": 0.9}, {"top_p": 0.5}, (0.6, 0.5)),
        ({"temperature": 0.6}, {"temperature": 0, "top_p": 0.5}, (0, 0.5)),
        ({"temperature": 0.6}, {"num_beams": 2}, (0, 1.0)),
    ],
)
def test_what_was_not_given_is_told_as_it_is_used(
    serve: Serve, of_file: dict[str, Any], given: dict[str, Any], in_use: tuple[float, float]
) -> None:
    """Clients read null as a value of their own; OpenAI's API gives the number."""
    model = replying_model("Yes.", "Yes.")
    model.backend.sampling_defaults = of_file
    answer = serve(model).post(PATH, json={"input": "Hi", "max_output_tokens": 2, **given}).json()
    assert (answer["temperature"], answer["top_p"]) == in_use
    assert answer["text"]["verbosity"] == "medium"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"store": True}, "store"),
        ({"background": True}, "background"),
        ({"background": 0}, "background"),
        ({"cache_prompt": 1}, "cache_prompt"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"max_token": 5}, "max_token"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"stream_options": {}}, "stream_options"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"input": []}, "input"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].type",
        ),
        (
            {"input": [{"type": "function_call_output", "call_id": "x", "output": ""}]},
            "input[0].call_id",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    serve: Serve, fields: dict[str, Any], param: str
) -> None:
    response = serve(replying_model(REPLY)).post(PATH, json={"input": "Hi", **fields})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_null_is_not_given(serve: Serve) -> None:
    names = set(ResponsesRequest.model_fields) - {"input"}
    body = {"input": "Hi", **dict.fromkeys(names), "temperature": 0}
    assert serve(replying_model("Hi.")).post(PATH, json=body).status_code == 200


def test_a_prompt_that_is_too_long_is_the_input(serve: Serve) -> None:
    response = serve(replying_model("Hi.")).post(PATH, json={"input": "long " * 100_000})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "input"


def test_a_reference_to_a_stored_item_says_what_to_send(serve: Serve) -> None:
    given = [{"role": "user", "content": "Hi"}, {"type": "item_reference", "id": "msg_1"}]
    error = serve(replying_model("Hi.")).post(PATH, json={"input": given}).json()["error"]
    assert error["param"] == "input[1]"
    assert "send the item itself" in error["message"]
    assert "store=false" in error["message"]


def test_a_response_that_fails_has_what_came_and_its_usage(serve: Serve) -> None:
    model = replying_model("A long reply.")
    n_prompt = len(model.chat_prompt([{"role": "user", "content": "Hi"}]).token_ids)

    def fail() -> None:
        if model.backend.n_decoded > n_prompt + 4:
            raise DecodeError("llama_decode returned -3")

    model.backend.on_decode = fail
    body = {"input": "Hi", "temperature": 0, "stream": True}
    found = events(serve(model).post(PATH, json=body).text)
    for each in found:
        EVENTS.validate_python(each, strict=True)
    deltas = [each["delta"] for each in found if each["type"] == "response.output_text.delta"]
    assert "".join(deltas) == "A lon"
    last = found[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["output"][0]["content"][0]["text"] == "A lon"
    assert last["response"]["usage"]["output_tokens"] == 5
    assert last["response"]["usage"]["input_tokens"] == n_prompt
