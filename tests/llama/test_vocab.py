"""The calls around llama_tokenize, which is a fake here."""

from __future__ import annotations

import ctypes
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from localgen._util.threads import start_thread
from localgen.llama import vocab
from localgen.llama.vocab import LlamaVocab


def test_more_tokens_than_there_is_room_for() -> None:
    """llama.cpp returns how many there are, below 0, and is asked again with that much room."""
    rooms: list[int] = []

    def tokenize(_vocab: Any, _text: bytes, _n: int, ids: Any, room: int, *_: bool) -> int:
        rooms.append(room)
        if room < 50:
            return -50
        for index in range(50):
            ids[index] = index
        return 50

    bindings = SimpleNamespace(llama_tokenize=tokenize, llama_token=ctypes.c_int32)
    fake: Any = SimpleNamespace(_llama=bindings, _vocab=None)
    assert LlamaVocab._tokenize(fake, b"ab", False, False).tolist() == [*range(50)]
    assert rooms == [10, 50]


def test_ctrl_c_while_a_long_text_is_tokenized(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is raised once llama.cpp is done: nothing is freed under it."""
    may_end, done = threading.Event(), threading.Event()
    real = start_thread

    def work() -> None:
        may_end.wait(20)
        done.set()

    def start(*given: Any) -> Any:
        thread: Any
        thread, future = real(*given)
        join = thread.join

        def interrupted() -> None:
            thread.join = join
            may_end.set()
            raise KeyboardInterrupt

        thread.join = interrupted
        return thread, future

    monkeypatch.setattr(vocab, "start_thread", start)
    with pytest.raises(KeyboardInterrupt):
        vocab._on_big_stack(work)
    assert done.is_set()
