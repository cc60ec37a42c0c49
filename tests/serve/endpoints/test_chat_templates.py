"""What a request tells the chat template: reasoning, variables, and a message to continue."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes import FakeModel
from tests.generation.replying import replying_model
from tests.serve.conftest import Serve

# It shows what it was told, and then, as replying_model() needs, the number of replies so far.
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "<{{ enable_thinking }}|{{ reasoning_effort }}|{{ today }}>{#- <tool_call> <think> #}"
    "{{ messages | selectattr('role', 'equalto', 'assistant') | list | length }}|"
    "{% endif %}"
)
REPLY = "<think>\nHm.\n</think>\n\nYes."
ASK = [{"role": "user", "content": "Lima?"}]
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"


def model(template: str = TEMPLATE) -> FakeModel:
    return replying_model(REPLY, REPLY, template=template)


def prompt_of(fake: FakeModel) -> str:
    """The first prompt that was computed."""
    (tokens,) = (tokens for tokens in fake.backend.kv.values() if tokens)
    text = bytes(token for token in tokens if token < 256).decode()
    return text[: text.index("|") if ">" not in text else text.index(">") + 1]


def ask(serve: Serve, fake: FakeModel, path: str, **fields: Any) -> dict[str, Any]:
    said = {"messages": ASK} if path == CHAT else {"input": ASK}
    response = serve(fake).post(path, json={**said, "temperature": 0, **fields})
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "<||>"),
        ({"reasoning_effort": "none"}, "<False||>"),
        ({"reasoning_effort": "high"}, "<|high|>"),
        ({"reasoning_budget": 50}, "<True||>"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "<False||>"),
        ({"chat_template_kwargs": {"today": "Monday"}}, "<||Monday>"),
        ({"chat_template_kwargs": {"today": "Monday"}, "reasoning_effort": "low"}, "<|low|Monday>"),
        ({"add_generation_prompt": True}, "<||>"),
    ],
)
def test_the_template_of_a_chat_is_told(serve: Serve, fields: dict[str, Any], told: str) -> None:
    fake = model()
    answer = ask(serve, fake, CHAT, **fields)
    assert prompt_of(fake) == f"[user]Lima?{told}"
    message = answer["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Yes.", "Hm.")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"reasoning": {"effort": "none"}}, "<False||>"),
        ({"reasoning": {"effort": "high", "summary": "auto"}}, "<|high|>"),
        ({"reasoning": {}}, "<||>"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "<False||>"),
    ],
)
def test_the_template_of_a_response_is_told(
    serve: Serve, fields: dict[str, Any], told: str
) -> None:
    fake = model()
    answer = ask(serve, fake, RESPONSES, **fields)
    assert prompt_of(fake) == f"[user]Lima?{told}"
    assert answer["output"][0]["content"][0]["text"] == "Hm."


SILENT = TEMPLATE.replace("{{ enable_thinking }}|{{ reasoning_effort }}", "|")


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (CHAT, {"reasoning_effort": "low"}, "reasoning_effort"),
        (CHAT, {"reasoning_effort": "none"}, "reasoning_effort"),
        (CHAT, {"reasoning_effort": "huge"}, "reasoning_effort"),
        (CHAT, {"reasoning_budget": -1}, "reasoning_budget"),
        (CHAT, {"reasoning_budget": 5, "reasoning_effort": "low"}, "reasoning_budget"),
        (CHAT, {"enable_thinking": False}, "enable_thinking"),
        (CHAT, {"chat_template_kwargs": {"thinking": 1}}, "chat_template_kwargs.thinking"),
        (CHAT, {"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages"),
        (CHAT, {"chat_template_kwargs": 5}, "chat_template_kwargs"),
        (CHAT, {"add_generation_prompt": False}, "add_generation_prompt"),
        (
            CHAT,
            {"continue_final_message": True, "add_generation_prompt": True},
            "add_generation_prompt",
        ),
        (RESPONSES, {"reasoning": {"effort": "low"}}, "reasoning.effort"),
        (RESPONSES, {"reasoning": {"effort": "none"}}, "reasoning.effort"),
        (RESPONSES, {"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        (RESPONSES, {"chat_template_kwargs": {"thinking": 1}}, "chat_template_kwargs.thinking"),
        (RESPONSES, {"continue_final_message": True}, "continue_final_message"),
    ],
)
def test_what_the_template_has_no_place_for_is_refused_by_name(
    serve: Serve, path: str, fields: dict[str, Any], param: str
) -> None:
    fake = model(SILENT)
    assert ask(serve, fake, path, **fields)["error"]["param"] == param
    assert not fake.backend.count("decode")


@pytest.mark.parametrize("stream", [False, True])
def test_the_last_message_is_continued(serve: Serve, stream: bool) -> None:
    """The answer has what follows it, and the template adds nothing after it."""
    fake = replying_model("", " so.", template=TEMPLATE)
    body = {"messages": BEGUN, "continue_final_message": True, "temperature": 0, "stream": stream}
    response = serve(fake).post(CHAT, json=body)
    if stream:
        lines = response.text.split("\n\n")[:-2]
        chunks = [json.loads(line.removeprefix("data: "))["choices"][0] for line in lines]
        text = "".join(each["delta"].get("content", "") for each in chunks)
    else:
        text = response.json()["choices"][0]["message"]["content"]
    assert text == " so."
    (tokens,) = (tokens for tokens in fake.backend.kv.values() if tokens)
    assert bytes(tokens).decode() == "[user]Lima?[assistant]I think 1| so."


TOOL = {"type": "function", "function": {"name": "weather"}}
BEGUN = [*ASK, {"role": "assistant", "content": "I think 1|"}]


@pytest.mark.parametrize(
    ("template", "fields", "param"),
    [
        (TEMPLATE.replace("m.content", "m.content | upper"), {}, "continue_final_message"),
        (TEMPLATE, {"reasoning_effort": "none"}, "reasoning_effort"),
        (TEMPLATE, {"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        (TEMPLATE, {"tools": [TOOL], "tool_choice": "auto"}, "tool_choice"),
    ],
)
def test_what_a_continued_message_has_no_place_for_is_refused(
    serve: Serve, template: str, fields: dict[str, Any], param: str
) -> None:
    fields = {"messages": BEGUN, "continue_final_message": True, **fields}
    error = ask(serve, model(template + "{{ tools }}"), CHAT, **fields)["error"]
    assert error["param"] == param, error


def test_a_message_is_continued_beside_tools(serve: Serve) -> None:
    fake = replying_model("", " so.", template=TEMPLATE + "{{ '' if tools }}")
    answer = ask(serve, fake, CHAT, messages=BEGUN, continue_final_message=True, tools=[TOOL])
    assert answer["choices"][0]["message"]["content"] == " so."


def test_a_thought_that_was_cut_is_continued(serve: Serve) -> None:
    begun = [*ASK, {"role": "assistant", "content": "<think>\n1|"}]
    fake = replying_model("", "Hm.\n</think>\n\nYes.", template=TEMPLATE)
    answer = ask(serve, fake, CHAT, messages=begun, continue_final_message=True)
    message = answer["choices"][0]["message"]
    assert (message["content"], message.get("reasoning_content")) == ("Yes.", "Hm.")
