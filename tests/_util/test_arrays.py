"""Arrays on their way to torch, which stands in here for a module of the same interface."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from localgen._util.arrays import to_torch


def test_torch_gets_no_reversed_array(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch refuses negative strides, which a flipped array has."""
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(from_numpy=lambda array: array))
    given = to_torch(np.arange(3)[::-1])
    assert given.tolist() == [2, 1, 0]
    assert given.strides[0] > 0
