"""Refusals name the field as the client wrote it, whatever localgen calls it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

pytest.importorskip("pydantic")

from localgen import ConstraintError
from localgen.generation.row_stream import RowStream, RowUpdate
from tests.fakes import fake_model
from tests.generation.replying import replying_model
from tests.serve.conftest import Serve

ASK = [{"role": "user", "content": "Lima?"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SCHEMA = {"name": "x", "schema": {"type": "foo"}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logit_bias": {"999999": 1}}, "logit_bias"),
        ({"stop_token_ids": [999999]}, "stop_token_ids"),
        (
            {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
            "response_format",
        ),
        ({"structured_outputs": {"regex": "("}}, "structured_outputs"),
        ({"chat_template_kwargs": {"unread": True}}, "chat_template_kwargs.unread"),
        ({"chat_template_kwargs": {"tokenize": False}}, "chat_template_kwargs.tokenize"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"reply_format": "unknown"}, "reply_format"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
         "tool_choice"),
        ({"documents": [{"title": "a", "text": "b"}]}, "documents"),
        ({"messages": [{"role": "user", "content": "a" * 5000}]}, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].type",
        ),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"n": 65}, "n"),
        ({"repeat_penalty": -1}, "repeat_penalty"),
    ],
)  # fmt: skip
def test_a_chat(serve: Serve, fields: dict[str, Any], param: str) -> None:
    client = serve(replying_model("Hi."))
    for stream in (False, True):
        body = {"messages": ASK, "stream": stream, **fields}
        response = client.post("/v1/chat/completions", json=body)
        assert response.status_code == 400
        assert response.json()["error"]["param"] == param


@pytest.mark.parametrize("name", ["", "a b", "a.b", "a" * 65, "é", "a\n"])
def test_names_are_those_that_openais_api_takes(serve: Serve, name: str) -> None:
    """A program that works here works there, and no name is a mark of a reply's format."""
    client = serve(replying_model("Hi."))
    tool = {"type": "function", "function": {"name": name}}
    chat = {"messages": ASK}
    form = {"type": "json_schema", "json_schema": {"name": name, "schema": {}}}
    text = {"format": {"type": "json_schema", "name": name, "schema": {}}}
    for path, body, param in (
        ("chat/completions", {**chat, "tools": [tool]}, "tools[0].function.name"),
        ("chat/completions", {**chat, "response_format": form}, "response_format.json_schema.name"),
        ("responses", {"input": "Hi", "text": text}, "text.format.name"),
        ("responses", {"input": "Hi", "tools": [{"type": "function", "name": name}]},
         "tools[0].name"),
    ):  # fmt: skip
        answer = client.post(f"/v1/{path}", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": "a" * 600}, "prompt"),
        ({"prompt": [999999]}, "prompt"),
        ({"prompt": [999999], "echo": True, "logprobs": 1}, "prompt"),
        ({"logit_bias": {"999999": 1}}, "logit_bias"),
    ],
)
def test_a_completion(serve: Serve, fields: dict[str, Any], param: str) -> None:
    response = serve(fake_model()).post("/v1/completions", json={"prompt": "abc", **fields})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize("stream", [False, True])
def test_a_constraint_that_is_too_complex_to_follow_is_the_fault_of_its_field(
    serve: Serve, stream: bool
) -> None:
    """It compiles, and fails when a token is chosen; that is no failure of the server."""

    def follow(*_: Any) -> None:
        raise ConstraintError("regex is too complex to follow here: lexer error; use a simpler one")

    model = fake_model()
    model.astream_rows = lambda *_, **__: RowStream(failing(follow), list, bool)  # type: ignore[method-assign]
    body = {"prompt": "a", "structured_outputs": {"regex": "a+"}, "stream": stream}
    response = serve(model).post("/v1/completions", json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == "structured_outputs"
    assert error["message"].startswith("structured_outputs.regex is too complex")


async def failing(follow: Callable[[], None]) -> AsyncGenerator[list[RowUpdate], None]:
    follow()
    yield []
