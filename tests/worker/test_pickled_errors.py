"""What is left of an error that cannot be sent as it is."""

from __future__ import annotations

import threading

from localgen.worker.pickled_errors import pickled_error, unpickled_error


def test_an_error_that_cannot_be_pickled_keeps_its_text_and_what_was_generated() -> None:
    error = ValueError("too long", threading.Lock())
    error.partial = ["what", "was", "there"]  # type: ignore[attr-defined]
    found = unpickled_error(pickled_error(error))
    assert isinstance(found, RuntimeError)
    assert str(found).startswith("ValueError: ('too long'")
    assert found.partial == ["what", "was", "there"]  # type: ignore[attr-defined]


def test_an_error_without_what_was_generated_gets_none() -> None:
    found = unpickled_error(pickled_error(ValueError(threading.Lock())))
    assert not hasattr(found, "partial")
