"""/tokenize, /detokenize and /apply-template: what llama-server's clients send and get."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.fakes import fake_model
from tests.generation.replying import replying_model
from tests.serve.conftest import Serve
from tests.serve.live import SECONDS, connect, listening, until

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


@pytest.mark.parametrize("n", [0, 1, 5000])
def test_many_tokens_are_a_list_as_few_are(serve: Serve, n: int) -> None:
    body = {"content": "Ü" * n, "with_pieces": n == 1}
    tokens = serve(replying_model("Hi.")).post("/tokenize", json=body).json()["tokens"]
    if n == 1:
        tokens = [each["id"] for each in tokens]
    assert tokens == list("Ü".encode()) * n


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
        (
            "/apply-template",
            {"messages": ASK, "chat_template_kwargs": {"x": 1}},
            "chat_template_kwargs.x",
        ),
    ],
)
def test_what_is_wrong_is_refused_by_name(
    serve: Serve, path: str, body: dict[str, Any], param: str
) -> None:
    response = serve(replying_model("Hi.")).post(path, json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {"content": "a" * 65}, "content"),
        ("/detokenize", {"tokens": [7] * 65}, "tokens"),
    ],
)
def test_what_is_longer_than_a_prompt_may_be_is_refused(
    serve: Serve, path: str, body: dict[str, Any], param: str
) -> None:
    response = serve(replying_model("Hi."), max_prompt_chars=64).post(path, json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


class Gate:
    """A tokenizer's encode() that takes until it is opened. n_inside: calls in it."""

    def __init__(self, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened, self.n_inside = threading.Event(), 0
        self._encode = model.tokenizer.encode
        monkeypatch.setattr(model.tokenizer, "encode", self._wait)

    def _wait(self, text: str, **options: Any) -> Any:
        self.n_inside += 1
        assert self.opened.wait(SECONDS)
        self.n_inside -= 1
        return self._encode(text, **options)


def test_texts_are_tokenized_two_at_a_time_and_stop_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = fake_model()
    gate = Gate(model, monkeypatch)
    with (
        listening(model, max_waiting=3) as (url, app),
        httpx.Client(base_url=url, timeout=SECONDS, trust_env=False) as client,
        ThreadPoolExecutor(5) as pool,
    ):
        ask = lambda: client.post("/tokenize", json={"content": "Hi"})  # noqa: E731
        asked = [pool.submit(ask) for _ in range(5)]
        until(lambda: gate.n_inside == 2 and app.state.text_admission.n_waiting == 3)
        assert client.get("/health").status_code == 200
        body = {"prompt": [72, 105], "max_tokens": 2, "temperature": 0}
        assert client.post("/v1/completions", json=body).status_code == 200
        refused = ask()
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert gate.n_inside == 2
        gate.opened.set()
        assert [each.result().json()["tokens"] for each in asked] == [[72, 105]] * 5


def test_a_client_that_leaves_keeps_its_place_until_its_thread_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = fake_model()
    gate = Gate(model, monkeypatch)
    with listening(model) as (url, app):
        for n_inside in (1, 2):
            with connect(url, "/tokenize", {"content": "Hi"}):
                until(lambda n=n_inside: gate.n_inside == n)  # type: ignore[misc]
        with connect(url, "/tokenize", {"content": "Hi"}):
            until(lambda: app.state.text_admission.n_waiting == 1)
        until(lambda: app.state.text_admission.n_waiting == 0)
        assert (gate.n_inside, app.state.text_admission.n_running) == (2, 2)
        gate.opened.set()
        until(lambda: app.state.text_admission.n_running == 0)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {"content": "aaa"}, "content"),
        ("/v1/completions", {"prompt": "aaa"}, "prompt"),
        ("/v1/chat/completions", {"messages": ASK}, "messages"),
        ("/v1/responses", {"input": "aaa"}, "input"),
    ],
)
def test_a_text_that_cannot_be_tokenized_is_refused_with_the_reason(
    serve: Serve, path: str, body: dict[str, Any], param: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one letter 1,048,576 times is with most vocabularies."""
    model = replying_model("Hi.")

    def tokenize(*_: Any, **__: Any) -> None:
        raise ValueError("the text has 9 characters in a row. Split the text.")

    client = serve(model)
    monkeypatch.setattr(model.backend.vocab, "tokenize", tokenize)
    answer = client.post(path, json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["message"][:22]) == (param, "the text has 9 charact")
