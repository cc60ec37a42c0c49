"""The OpenAPI document has every path, and says what the server does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from localgen.serve.app import create_app
from localgen.serve.config import ServeConfig
from localgen.serve.openapi import document
from localgen.serve.operations import OPERATIONS
from tests.fakes import FakeModel, fake_model
from tests.generation.replying import replying_model
from tests.serve.conftest import Serve
from tests.serve.pools import pool_of

CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Lima"}}</tool_call>'
REPLY = f"<think>Hm.</think>\n\nI look.\n{CALL}"
CHAT = {"messages": [{"role": "user", "content": "Lima?"}], "temperature": 0}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {**CHAT, "logprobs": True, "top_logprobs": 2},
    "/v1/completions": {"prompt": ["abc", "abd"], "echo": True, "logprobs": 1, "temperature": 0},
    "/v1/responses": {"input": "Lima?", "temperature": 0, "top_logprobs": 2},
    "/tokenize": {"content": "Hi", "with_pieces": True},
    "/detokenize": {"tokens": [72, 105]},
    "/apply-template": {"messages": CHAT["messages"]},
}
# Not of the API: the pages, and the document itself.
UNDESCRIBED = {"/", "/compare", "/openapi.json"}


def check(value: Any, schema: dict[str, Any]) -> None:
    """Fail unless a value satisfies a schema of the document."""
    whole = {**schema, "components": document()["components"]}
    Draft202012Validator(whole).validate(value)


def model_of(path: str) -> FakeModel:
    """A model with something to say to the body of a path."""
    return fake_model() if path == "/v1/completions" else replying_model(REPLY)


def operation(path: str, method: str = "post") -> dict[str, Any]:
    return document()["paths"][path][method]


def test_every_path_that_is_served_is_described() -> None:
    app = create_app(pool_of(replying_model("Hi.")), ServeConfig())
    served = {route.path.replace(":path", "") for route in app.routes}  # type: ignore[attr-defined]
    assert served - UNDESCRIBED == {each.path for each in OPERATIONS}


def test_schemas_are_json_schemas() -> None:
    for schema in document()["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("path", BODIES)
def test_requests_and_answers_are_as_described(serve: Serve, path: str) -> None:
    about = operation(path)
    check(BODIES[path], about["requestBody"]["content"]["application/json"]["schema"])
    response = serve(model_of(path)).post(path, json=BODIES[path])
    assert response.status_code == 200
    check(response.json(), about["responses"]["200"]["content"]["application/json"]["schema"])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_events_are_as_described(serve: Serve, path: str) -> None:
    content = operation(path)["responses"]["200"]["content"]
    schema = content["text/event-stream"]["itemSchema"]["properties"]["data"]
    schema = schema["anyOf"][1] if "anyOf" in schema else schema
    response = serve(model_of(path)).post(path, json={**BODIES[path], "stream": True})
    lines = [line for line in response.text.split("\n") if line.startswith("data: {")]
    assert len(lines) >= 2
    for line in lines:
        check(json.loads(line.removeprefix("data: ")), schema["contentSchema"])


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/fake", "/health"])
def test_what_the_server_tells_of_itself_is_as_described(serve: Serve, path: str) -> None:
    about = operation(path.replace("fake", "{id}"), "get")
    client = serve(replying_model("Hi."))
    client.post("/tokenize", json={"content": "Hi"})  # loads the model
    response = client.get(path)
    schema = about["responses"][str(response.status_code)]["content"]["application/json"]["schema"]
    check(response.json(), schema)


def test_a_refusal_is_as_described(serve: Serve) -> None:
    for path in BODIES:
        response = serve(replying_model("Hi.")).post(path, json={"nonsense": 1})
        assert response.status_code == 400
        check(
            response.json(),
            operation(path)["responses"]["400"]["content"]["application/json"]["schema"],
        )


def test_the_document_is_served(serve: Serve) -> None:
    assert serve(replying_model("Hi.")).get("/openapi.json").json() == document()
