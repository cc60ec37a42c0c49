"""No message to an HTTP client speaks of Python: it names fields, or options of the server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import pytest

pytest.importorskip("pydantic")

from localgen.cli.commands import PLACES
from localgen.config import GenerationConfig, ModelConfig
from localgen.serve.response_request import ResponsesChat
from localgen.serve.schemas.chat import ChatRequest
from localgen.serve.schemas.common import RequestModel
from localgen.serve.schemas.completions import CompletionRequest
from localgen.serve.schemas.responses import ResponsesRequest
from localgen.serve.wording import as_fields
from tests.fakes import fake_model
from tests.generation.replying import replying_model
from tests.serve.conftest import Serve

SAID = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}


def chat(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"messages": SAID, **fields})


def response(**fields: Any) -> ResponsesChat:
    return ResponsesChat.model_validate({"messages": SAID, **fields})


def completion(**fields: Any) -> CompletionRequest:
    return CompletionRequest.model_validate({"prompt": "a", **fields})


@pytest.mark.parametrize(
    ("given", "message", "told"),
    [
        (chat(n=3), "num_return_sequences=3 needs do_sample=True or num_beams: greedy",
         "n=3 needs a temperature above 0 or num_beams: greedy"),
        (chat(reasoning_effort="none"), "reasoning='off': this template, leave reasoning out",
         'reasoning_effort="none": this template, leave reasoning_effort out'),
        (response(reasoning_effort="none"), "reasoning='off': no; reasoning=0 ends it",
         'reasoning.effort="none": no; reasoning_budget=0 ends it'),
        (chat(reasoning_effort="low"), "reasoning='low' needs, use reasoning='on', reasoning='off' "
         "or a number of tokens, such as reasoning=512",
         'reasoning_effort="low" needs, use reasoning_effort="none" or a number of tokens, such as '
         "reasoning_budget=512"),
        (chat(reasoning_budget=5), "shows no reasoning: leave reasoning out or, in Python, name "
         "the model's own format with reply_format=",
         "shows no reasoning: leave reasoning_budget out or name the model's own format with "
         "reply_format"),
        (chat(), "use a model whose template takes tools or, in Python, pass chat_template= with "
         "one that shows them and reply_format='hermes', or another, for what it writes",
         "use a model whose template takes tools"),
        (chat(), "Give the prompt as text; in Python, chat_template= takes a jinja template",
         "Give the prompt as text"),
        (chat(min_tokens=9, max_tokens=2), "min_new_tokens (=9) is above max_new_tokens (=2)",
         "min_tokens (=9) is above max_tokens (=2)"),
        (response(max_completion_tokens=2), "max_new_tokens (=2) wins",
         "max_output_tokens (=2) wins"),
        (completion(), "use max_new_tokens", "use max_tokens"),
        (chat(num_beams=9), "num_beams=9 must be at most max_sequences, which is 4: load the model "
         "with a larger max_sequences",
         "num_beams=9 must be at most --max-sequences, which is 4: start the server with a larger "
         "--max-sequences"),
        (chat(structured_outputs={"grammar": "x"}), "grammar cannot be enforced: choices takes it",
         "structured_outputs.grammar cannot be enforced: choices takes it"),
        (chat(structured_outputs={"grammar": "x"}), "it has many; choices takes more texts",
         "it has many; structured_outputs.choice takes more texts"),
        (chat(response_format=SCHEMA), "json_schema: no schema; pass json_object=True for any",
         'response_format: no schema; pass response_format of type "json_object" for any'),
        (response(response_format=SCHEMA), "json_schema: no schema", "text.format: no schema"),
        (chat(parallel_tool_calls=False), "parallel_tool_calls=False limits, tool_choice='none'",
         'parallel_tool_calls=false limits, tool_choice="none"'),
        (chat(), "temperature must be at least 0, the seed of this",
         "temperature must be at least 0, the seed of this"),
        (chat(), "got 'reasoning' and 'choices=3'", "got 'reasoning' and 'choices=3'"),
    ],
)  # fmt: skip
def test_options_have_the_names_that_the_client_knows(
    given: RequestModel, message: str, told: str
) -> None:
    assert as_fields(message, given) == told


# --- what real requests are told ---

PYTHON = re.compile(
    r"from_pretrained|GenerationConfig|do_sample|[Pp]ython|\w\(|\b(?:True|False|None)\b|\w=(?!\S)"
)
# What a model whose replies are a script cannot do.
NOT_WITH_A_SCRIPT = {
    "guidance_scale", "max_tokens", "max_completion_tokens", "max_output_tokens", "model",
}  # fmt: skip
BEYOND: tuple[Any, ...] = (-5, 10**12, 0, 2, "", "x", [], ["x"], [7], {}, True, False)
TOGETHER: list[dict[str, Any]] = [
    {"num_beams": 2, "stream": True},
    {"num_beams": 2, "mirostat": 2},
    {"num_beams": 2, "guidance_scale": 2.0},
    {"num_beams": 2, "prompt_lookup_num_tokens": 3},
    {"num_beams": 2, "n": 3},
    {"num_beams": 99},
    {"guidance_scale": 2.0, "prompt_lookup_num_tokens": 3},
    {"temperature": 0, "n": 2, "num_beams": 2, "top_p": 0.5},
    {"min_tokens": 9, "max_tokens": 3},
    {"negative_prompt": "a"},
    {"mirostat": 2, "temperature": 0},
    {"length_penalty": 2.0},
    {"suppress_tokens": list(range(250))},
    {"logit_bias": {"999999": 1}},
    {"stop_token_ids": [999999]},
    {"samplers": ["x"]},
    {"structured_outputs": {"regex": "("}},
    {"structured_outputs": {"grammar": "x"}},
    {"structured_outputs": {"choice": []}},
    {"structured_outputs": {"json": {"type": "function", "function": {}}}},
    {"structured_outputs": {"json": {"type": "json_object"}}},
    {"structured_outputs": {"json": {"schema": {}}}},
    {"response_format": {"type": "json_schema", "json_schema": {
        "name": "x", "schema": {"type": "json_object"}}}},
    {"response_format": SCHEMA, "structured_outputs": {"regex": "a"}},
    {"tools": [TOOL]},
    {"tools": [TOOL, TOOL]},
    {"tools": [TOOL], "tool_choice": "required"},
    {"tools": [TOOL], "tool_choice": "required", "response_format": SCHEMA},
    {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
    {"tools": [TOOL], "tool_choice": "none", "parallel_tool_calls": False},
    {"tool_choice": "required"},
    {"reasoning_effort": "none"},
    {"reasoning_effort": "low"},
    {"reasoning_budget": 5},
    {"reasoning_budget": 5, "chat_template_kwargs": {"enable_thinking": True}},
    {"reply_format": "x"},
    {"chat_template_kwargs": {"x": 1}},
    {"chat_template_kwargs": {"message": 1}},
    {"continue_final_message": True},
    {"documents": [{"text": "a"}]},
    {"messages": [{"role": "user", "content": "a" * 9000}]},
    {"reasoning": {"effort": "none"}},
    {"reasoning": {"effort": "low"}},
    {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "foo"}}}},
    {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "json_object"}}}},
]  # fmt: skip
# It shows neither reasoning nor calls, and reads no variable.
PLAIN = (
    "{% for m in messages %}{{ m.content }}{% endfor %}"
    "{{ messages | selectattr('role', 'equalto', 'assistant') | list | length }}|"
)
CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
KINDS: dict[str, tuple[type[RequestModel], dict[str, Any]]] = {
    CHAT: (ChatRequest, {"messages": SAID}),
    COMPLETIONS: (CompletionRequest, {"prompt": "a"}),
    RESPONSES: (ResponsesRequest, {"input": "Hi"}),
}
REPLIES = ["<think>a</think>b"] * 3
MODELS: dict[str, Callable[[], Any]] = {
    "without a template": fake_model,
    "plain": lambda: replying_model(*REPLIES, template=PLAIN),
    "reasons": lambda: replying_model(*REPLIES),
}


def requests_for(kind: type[RequestModel]) -> Iterator[dict[str, Any]]:
    names = kind.model_fields
    alone = names.keys() - NOT_WITH_A_SCRIPT
    yield from ({name: value} for name in alone for value in BEYOND)
    yield from (each for each in TOGETHER if each.keys() <= names.keys())


def refusals(client: Any, path: str) -> Iterator[tuple[dict[str, Any], str]]:
    """What each of many requests is told that is refused."""
    kind, plain = KINDS[path]
    limit = "max_output_tokens" if path == RESPONSES else "max_tokens"
    for given in requests_for(kind):
        short = {} if "max_completion_tokens" in given else {limit: 2}
        answer = client.post(path, json={**short, **plain, **given})
        assert answer.status_code in (200, 400), (given, answer.text)
        if answer.status_code == 400:
            yield given, answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "model"),
    [
        (COMPLETIONS, "without a template"),
        *((path, name) for path in (CHAT, RESPONSES) for name in MODELS),
    ],
)
def test_refusals_speak_of_fields_and_of_options_of_the_server(
    serve: Serve, path: str, model: str
) -> None:
    """A client that was told to pass ``chat_template=`` had no such field."""
    command = PLACES["serve"].load("serve")
    flags = {flag for parameter in command.params for flag in parameter.opts}
    options = {each.name for config in (GenerationConfig, ModelConfig) for each in fields(config)}
    own = {*KINDS[path][0].model_fields, "json_object"}  # of structured_outputs
    foreign = {name for name in options - own if "_" in name}
    n_refused = 0
    for given, message in refusals(serve(MODELS[model]()), path):
        assert not PYTHON.search(message), (given, message)
        assert set(re.findall(r"--[a-z][a-z-]+", message)) <= flags, (given, message)
        names = set(re.findall(r"(?<![\w'\"-])[a-z]+(?:_[a-z]+)+", message))
        assert not names & foreign, (given, message)
        n_refused += 1
    assert n_refused > 100
