"""Fields read from a file: their types, at any depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from localgen._util.typed_fields import check_fields


@dataclass
class Inner:
    share: float


@dataclass
class Outer:
    name: str = "a"
    count: int | None = None
    parts: tuple[Inner, ...] = ()
    best: Inner | None = None
    more: dict[str, Any] | None = None


@pytest.mark.parametrize(
    "good", [{}, {"count": 3}, {"parts": (Inner(1), Inner(0.5))}, {"more": {"a": [1]}}]
)
def test_what_fields_may_be(good: dict[str, Any]) -> None:
    check_fields(Outer(**good))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"name": 5}, "name of Outer must be str, got 5"),
        ({"count": True}, "count of Outer must be int | None, got True"),
        ({"count": 1.5}, "count of Outer"),
        ({"parts": [Inner(1)]}, "parts of Outer"),
        ({"parts": (Inner(1), 2)}, "parts of Outer"),
        ({"parts": (Inner("x"),)}, "share of Inner must be float, got 'x'"),  # type: ignore[arg-type]
        ({"best": Inner(10**400)}, "share of Inner"),
        ({"more": {1: 2}}, "more of Outer"),
        ({"more": []}, "more of Outer"),
    ],
)
def test_what_they_may_not_be(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError) as caught:
        check_fields(Outer(**bad))
    assert message in str(caught.value)
