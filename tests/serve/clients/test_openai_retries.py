"""The ``openai`` package waits as long as a busy server says, and tries again."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import openai
import pytest

from tests.serve.processes import slow_server

pytestmark = pytest.mark.slow


def test_a_retry_waits_for_as_long_as_the_server_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with slow_server(max_running=1, max_waiting=0, pass_seconds=0.002) as busy:
        base_url = f"{busy.url}/v1"
        with openai.OpenAI(base_url=base_url, api_key="none", max_retries=1) as client:
            first = client.completions.create(
                model="fake",
                prompt="abc",
                max_tokens=90_000,
                stream=True,
                extra_body={"ignore_eos": True},
            )
            next(iter(first))
            slept: list[float] = []

            def sleep(seconds: float) -> None:
                """Make room, where the client would only wait."""
                slept.append(seconds)
                first.close()
                busy.wait_until("localgen_requests_running", 0)

            clock: Any = SimpleNamespace(**{**vars(time), "sleep": sleep})
            monkeypatch.setattr("openai._base_client.time", clock)
            second = client.with_options(max_retries=0).completions
            with pytest.raises(openai.RateLimitError) as caught:
                second.create(model="fake", prompt="abc", max_tokens=1)
            asked = float(caught.value.response.headers["retry-after"])
            assert client.completions.create(model="fake", prompt="abc", max_tokens=1).choices
            assert slept == [asked]
