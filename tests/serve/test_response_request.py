"""A request to /v1/responses means the same as one for a chat."""

from __future__ import annotations

from typing import Any

import pytest

from localgen.serve.refusals import Refusal
from localgen.serve.response_request import ResponsesChat, as_chat
from localgen.serve.schemas.responses import ResponsesRequest


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": {"type": "object"}, "strict": True}


def chat(**fields: Any) -> dict[str, Any]:
    request = ResponsesRequest.model_validate({"model": "m", "input": "Hi", **fields})
    return as_chat(request).model_dump(exclude_none=True, by_alias=True)


def test_a_text_and_instructions_are_messages() -> None:
    assert chat(instructions="Be brief.", max_output_tokens=5) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ],
        "max_completion_tokens": 5,
        "logprobs": False,
    }


def test_sampling_fields_keep_their_names() -> None:
    made = chat(temperature=0.5, top_p=0.9, seed=3, top_k=7, stop=["."])
    assert (made["temperature"], made["top_p"], made["seed"]) == (0.5, 0.9, 3)
    assert (made["top_k"], made["stop"]) == (7, ["."])


def test_a_schema_is_a_response_format() -> None:
    given = {"type": "json_schema", "name": "city", "schema": {"type": "object"}, "strict": True}
    assert chat(text={"format": given})["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "city", "schema": {"type": "object"}, "strict": True},
    }
    any_object = chat(text={"format": {"type": "json_object"}})
    assert any_object["response_format"] == {"type": "json_object"}
    assert "response_format" not in chat(text={"verbosity": "medium"})


def test_tools_lose_their_flat_form() -> None:
    made = chat(tools=[tool("add")], tool_choice={"type": "function", "name": "add"})
    function = {"name": "add", "parameters": {"type": "object"}, "strict": True}
    assert made["tools"] == [{"type": "function", "function": function}]
    assert made["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    assert chat(tools=[tool("add")], tool_choice="required")["tool_choice"] == "required"


def test_calls_without_tools_are_not_parallel() -> None:
    assert "parallel_tool_calls" not in chat(parallel_tool_calls=True, tools=[])
    assert chat(parallel_tool_calls=False, tools=[tool("add")])["parallel_tool_calls"] is False


def test_allowed_tools_are_the_only_ones() -> None:
    allowed = {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "b"}],
    }
    made = chat(tools=[tool("a"), tool("b")], tool_choice=allowed)
    assert [each["function"]["name"] for each in made["tools"]] == ["b"]
    assert made["tool_choice"] == "required"
    with pytest.raises(Refusal, match="no function 'b'") as caught:
        chat(tools=[tool("a")], tool_choice=allowed)
    assert caught.value.param == "tool_choice.tools"


@pytest.mark.parametrize(
    "fields", [{"top_logprobs": 3}, {"include": ["message.output_text.logprobs"]}]
)
def test_either_of_two_fields_asks_for_logprobs(fields: dict[str, Any]) -> None:
    assert chat(**fields)["logprobs"] is True


def test_reasoning_has_an_effort() -> None:
    assert chat(reasoning={"effort": "low", "summary": "auto"})["reasoning_effort"] == "low"


def test_errors_name_the_field_of_the_request() -> None:
    for param, message, own, told in (
        ("messages", "messages may have 5", "input", "input may have 5"),
        ("messages", "a chat may have 5", "input", "a chat may have 5"),
        ("temperature", "temperature is", "temperature", "temperature is"),
        (None, "messages are", None, "messages are"),
    ):
        refusal = Refusal(400, message, param=param)
        refusal.rename(ResponsesChat.spellings)
        assert (refusal.param, str(refusal)) == (own, told)
