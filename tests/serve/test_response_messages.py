"""Items of /v1/responses become the messages that /v1/chat/completions would get."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from localgen.serve.refusals import Refusal
from localgen.serve.response_messages import chat_messages
from localgen.serve.schemas.response_input import Input

ADAPTER: TypeAdapter[Any] = TypeAdapter(Input)


def messages(given: Any, instructions: str | None = None) -> list[dict[str, Any]]:
    return chat_messages(ADAPTER.validate_python(given), instructions)


def call(call_id: str, name: str = "add", arguments: str = "{}") -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def result(call_id: str, output: Any = "3") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def test_a_text_is_one_message_of_the_user() -> None:
    assert messages("Hi") == [{"role": "user", "content": "Hi"}]


def test_instructions_come_first() -> None:
    assert messages("Hi", "Be brief.")[0] == {"role": "system", "content": "Be brief."}


def test_a_message_needs_no_type_and_its_parts_are_text() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    assert messages([{"role": "user", "content": parts}]) == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    ]


def test_one_turn_of_the_assistant_is_one_message() -> None:
    answer = {
        "type": "message",
        "role": "assistant",
        "id": "msg_1",
        "status": "completed",
        "content": [{"type": "output_text", "text": "I add.", "annotations": [], "logprobs": []}],
    }
    thought = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "1+2?"}],
        "encrypted_content": None,
    }
    given = [thought, answer, call("a", arguments='{"x":1}'), call("b"), result("a"), result("b")]
    turn, *results = messages(given)
    assert turn["role"] == "assistant"
    assert turn["reasoning_content"] == "1+2?"
    assert turn["content"] == "I add."
    assert [each["id"] for each in turn["tool_calls"]] == ["a", "b"]
    assert turn["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"x":1}'}
    assert [each["tool_call_id"] for each in results] == ["a", "b"]


def test_a_call_after_a_result_is_another_turn() -> None:
    given = [call("a"), result("a"), call("b"), result("b")]
    assert [each["role"] for each in messages(given)] == ["assistant", "tool"] * 2


def test_two_messages_of_the_assistant_stay_two() -> None:
    given = [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert [each["content"] for each in messages(given)] == ["a", "b"]


def test_a_result_has_the_name_of_its_call_and_may_have_parts() -> None:
    parts = [{"type": "input_text", "text": "3"}, {"type": "input_text", "text": "!"}]
    assert messages([call("a", "sum"), result("a", parts)])[1] == {
        "role": "tool",
        "tool_call_id": "a",
        "name": "sum",
        "content": [{"type": "text", "text": "3"}, {"type": "text", "text": "!"}],
    }


def test_a_summary_stands_for_reasoning_without_content() -> None:
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Short."}]}
    assert messages([thought])[0]["reasoning_content"] == "Short."


def test_a_result_without_its_call_is_refused_with_its_place() -> None:
    with pytest.raises(Refusal, match="the call_id 'lost'") as caught:
        messages([{"role": "user", "content": "Hi"}, result("lost")])
    assert (caught.value.status, caught.value.param) == (400, "input[1].call_id")


@pytest.mark.parametrize(
    "item",
    [
        {"type": "item_reference", "id": "msg_1"},
        {"role": "user", "content": [{"type": "input_image", "image_url": "https://x"}]},
        {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"},
        {"role": "tool", "content": "3"},
    ],
)
def test_what_cannot_be_read_is_refused(item: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        messages([item])
