"""What the server refuses becomes the ``openai`` package's own exceptions."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import openai
import pytest

from tests.fakes import FakeBackend, fake_model
from tests.serve.live import SECONDS, listening

pytestmark = pytest.mark.slow

HI: Any = [{"role": "user", "content": "Hi"}]


def test_models_are_listed_and_found(client: openai.OpenAI, model: str) -> None:
    assert model in [each.id for each in client.models.list()]
    assert client.models.retrieve(model).id == model


def test_an_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nothing", messages=HI)
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("param", "value"), [("temperature", -1), ("n", 0), ("max_tokens", -1), ("audio", {})]
)
def test_a_bad_value_names_its_field(
    client: openai.OpenAI, model: str, param: str, value: Any
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=HI, extra_body={param: value})
    assert caught.value.param == param


def test_a_prompt_that_is_too_long(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=model, prompt="word " * 9000, max_tokens=1)
    assert caught.value.code == "context_length_exceeded"


def test_an_unknown_path(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.get("/nothing", cast_to=object)


def test_a_retry_waits_as_long_as_retry_after_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself the package would wait for half a second at most before its first retry."""
    backend, may_run = FakeBackend(), threading.Event()
    started = threading.Event()

    def wait() -> None:
        started.set()
        assert may_run.wait(SECONDS)

    backend.on_decode = wait
    waits: list[float] = []
    with (
        listening(fake_model(backend=backend), max_running=1, max_waiting=0) as (url, app),
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=SECONDS) as client,
        ThreadPoolExecutor(1) as pool,
    ):

        def ask() -> Any:
            return client.completions.create(model="fake", prompt="abc", max_tokens=2)

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            may_run.set()
            while app.state.admission.n_running:
                pass

        clock = SimpleNamespace(**{**vars(time), "sleep": sleep})
        monkeypatch.setattr("openai._base_client.time", clock)
        busy = pool.submit(ask)
        assert started.wait(SECONDS)
        assert ask().choices[0].finish_reason == "length"
        assert busy.result(SECONDS).choices[0].finish_reason == "length"
    assert waits == [1.0]
