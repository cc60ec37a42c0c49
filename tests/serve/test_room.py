"""Whether a model fits beside those that are loaded."""

from __future__ import annotations

import pytest

from localgen._util import system
from localgen.errors import NotEnoughMemoryError
from localgen.serve import room
from localgen.serve.room import check_room
from localgen.serve.served_model import ServedModel

BIG = ServedModel(names=("big",), source="big", n_bytes=10)


@pytest.fixture(autouse=True)
def _sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "available_memory", lambda: 16)
    monkeypatch.setattr(room, "COUNTS_MAPPED_PAGES", True)


def test_mapped_weights_of_loaded_models_are_not_available_though_they_are_reported_so() -> None:
    check_room(BIG, 6)
    with pytest.raises(NotEnoughMemoryError) as caught:
        check_room(BIG, 7)
    assert (caught.value.needed, caught.value.available) == (10, 9)


def test_where_nothing_is_loaded_loading_itself_checks() -> None:
    check_room(ServedModel(names=("huge",), source="huge", n_bytes=100), 0)


def test_where_a_system_reports_them_as_used_they_are_not_counted_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "COUNTS_MAPPED_PAGES", False)
    check_room(BIG, 7)


def test_where_the_system_reports_nothing_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(system, "available_memory", lambda: None)
    check_room(BIG, 7)
