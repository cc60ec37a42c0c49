"""What clients are told of errors: enough to act on, and nothing of this machine."""

from __future__ import annotations

import json
import logging

import pytest

from localgen.errors import (
    BackendError,
    ClosedError,
    InvalidGGUFError,
    NotEnoughMemoryError,
    WorkerCrashedError,
)
from localgen.serve.problems import refusal_of
from localgen.serve.refusals import Refusal

SECRET = "/home/me/model.gguf line 12"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NotEnoughMemoryError(SECRET, 2, 1), 503, "no_memory"),
        (InvalidGGUFError(SECRET), 503, "model_not_loaded"),
        (WorkerCrashedError(SECRET, signal="SIGSEGV", output=SECRET), 503, "model_crashed"),
        (BackendError(SECRET), 500, "backend"),
        (ClosedError(SECRET), 503, "server_stopping"),
        (KeyError(SECRET), 500, "internal_error"),
    ],
)
def test_an_error_has_a_code_and_shows_no_path(
    error: Exception, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    refusal = refusal_of(error)
    assert (refusal.status, refusal.code) == (status, code)
    assert "/home" not in str(refusal.body())


def test_a_request_that_crashed_the_model_each_time_is_one_that_clients_do_not_repeat() -> None:
    refusal = refusal_of(WorkerCrashedError(SECRET, is_refused=True))
    assert refusal.status == 400
    assert refusal.code == "request_crashes_model"
    assert "/home" not in str(refusal.body())


def test_an_answer_does_not_repeat_all_that_was_sent() -> None:
    refusal = Refusal(400, "a" * 10**6, param="b" * 10**6)
    assert len(json.dumps(refusal.body())) < 3000
    assert Refusal(400, "short", param="n").body()["error"]["message"] == "short"
