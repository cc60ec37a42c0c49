"""/tokenize, /detokenize and /apply-template: what llama-server's clients send and get."""

from __future__ import annotations

from typing import Any

import pytest

from tests.generation.replying import replying_model
from tests.serve.conftest import Serve

ASK = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Lima?"}]


def test_a_text_there_and_back(serve: Serve) -> None:
    client = serve(replying_model("Hi."))
    tokens = client.post("/tokenize", json={"content": "Grüße"}).json()["tokens"]
    assert tokens == list("Grüße".encode())
    assert client.post("/detokenize", json={"tokens": tokens}).json() == {"content": "Grüße"}


def test_pieces_that_are_not_utf_8_are_bytes(serve: Serve) -> None:
    body = {"content": "aü", "with_pieces": True}
    tokens = serve(replying_model("Hi.")).post("/tokenize", json=body).json()["tokens"]
    assert [each["piece"] for each in tokens] == ["a", [0xC3], [0xBC]]


def test_a_conversation_is_written_as_the_model_gets_it(serve: Serve) -> None:
    answer = serve(replying_model("Hi.")).post("/apply-template", json={"messages": ASK})
    prompt = answer.json()["prompt"]
    assert '"system"' in prompt
    assert "Lima?" in prompt
    assert prompt.endswith("0|")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {"content": 5}, "content"),
        ("/tokenize", {"content": "a", "add_specials": True}, "add_specials"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
        ("/detokenize", {"tokens": [2**70]}, "tokens"),
        ("/apply-template", {"messages": []}, "messages"),
        (
            "/apply-template",
            {"messages": ASK, "chat_template_kwargs": {"tokenize": True}},
            "chat_template_kwargs.tokenize",
        ),
        ("/apply-template", {"messages": ASK, "chat_template_kwargs": {"x": 1}}, "messages"),
    ],
)
def test_what_is_wrong_is_refused_by_name(
    serve: Serve, path: str, body: dict[str, Any], param: str
) -> None:
    response = serve(replying_model("Hi.")).post(path, json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
