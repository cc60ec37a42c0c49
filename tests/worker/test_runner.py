"""The worker's side of calls that nobody waits for any more."""

from __future__ import annotations

import pickle
import threading
from contextvars import ContextVar
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from localgen._util.wanted import check_wanted
from localgen.worker import runner
from localgen.worker.runner import CallRunner

SECONDS = 60


def test_a_call_that_is_abandoned_while_it_waits_is_not_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever sent a slow grammar and left held a thread that others need."""
    messages: SimpleQueue[Any] = SimpleQueue()
    sent: SimpleQueue[Any] = SimpleQueue()
    begun, left = threading.Event(), threading.Event()

    def build(_model: Any, _name: Any, arguments: dict[str, Any]) -> Any:
        if arguments["waits"]:
            begun.set()
            try:
                while True:
                    check_wanted()
            finally:
                left.set()
        raise ValueError("built")

    monkeypatch.setattr(runner, "build", build)
    ignore = lambda _: None  # noqa: E731
    driver = SimpleNamespace(announce_passes=ignore, watch=ignore)
    number: ContextVar[int | None] = ContextVar("number", default=None)
    model: Any = SimpleNamespace(_driver=driver)
    sender: Any = SimpleNamespace(send=sent.put)
    calls = CallRunner(model, sender, number)
    receiver: Any = SimpleNamespace(receive=messages.get)
    serving = threading.Thread(target=calls.serve, args=(receiver,))
    serving.start()
    messages.put(("text", 1, pickle.dumps({"waits": True})))
    assert begun.wait(SECONDS)
    messages.put(("abandon", 1))
    assert left.wait(SECONDS)
    messages.put(("text", 2, pickle.dumps({"waits": False})))
    kind, number_of, error = sent.get(timeout=SECONDS)
    assert (kind, number_of, str(pickle.loads(error))) == ("error", 2, "built")
    messages.put(None)
    serving.join(SECONDS)
    calls._builders.shutdown()
    assert sent.empty()
    assert not calls._building
    assert not calls._abandoned
