"""Work on a big stack hands back what it returns or raises, and leaves the size as it was."""

from __future__ import annotations

import threading

import pytest

from localgen._util.big_stack import on_big_stack
from localgen.errors import BackendError


def test_work_runs_in_a_thread_of_its_name_and_returns() -> None:
    before = threading.stack_size()
    name = on_big_stack(2**20, "deep", "a: b", lambda: threading.current_thread().name)
    assert (name, threading.stack_size()) == ("deep", before)


def test_an_exception_is_raised_where_the_result_is_asked_for() -> None:
    with pytest.raises(ZeroDivisionError):
        on_big_stack(2**20, "deep", "a: b", lambda: 1 // 0)


def test_no_thread_is_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(BackendError, match=r"a text is read in its own thread, .* or read less"):
        on_big_stack(2**20, "deep", "a text is read: read less", lambda: None)
