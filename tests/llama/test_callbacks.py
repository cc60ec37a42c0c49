"""What C callbacks raise is collected; what anything else raises goes where it went before."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from localgen.llama.callbacks import collected_errors


def test_errors_of_others_are_not_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook that was there before gets them, and is there again afterwards."""
    before: list[Any] = []

    def hook(unraisable: Any) -> None:
        before.append(unraisable)

    monkeypatch.setattr(sys, "unraisablehook", hook)
    own = SimpleNamespace(
        err_msg="Exception ignored on calling ctypes callback function", exc_value=ValueError("own")
    )
    other = SimpleNamespace(err_msg=None, exc_value=ValueError("of a finalizer"))
    with collected_errors() as errors:
        sys.unraisablehook(own)
        sys.unraisablehook(other)
    assert errors == [own.exc_value]
    assert before == [other]
    assert sys.unraisablehook is hook
