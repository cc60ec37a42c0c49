"""Whether a model fits beside those that are loaded."""

from __future__ import annotations

import pytest

from localgen._util import system
from localgen.errors import NotEnoughMemoryError
from localgen.serve import room
from localgen.serve.room import Room
from localgen.serve.served_model import ServedModel

BIG = ServedModel(names=("big",), source="big", n_bytes=10)


@pytest.fixture(autouse=True)
def _sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "available_memory", lambda: 16)
    monkeypatch.setattr(room, "COUNTS_MAPPED_PAGES", True)


def test_mapped_weights_of_loaded_models_are_not_available_though_they_are_reported_so() -> None:
    Room().check(BIG, 6)
    with pytest.raises(NotEnoughMemoryError) as caught:
        Room().check(BIG, 7)
    assert (caught.value.needed, caught.value.available) == (10, 9)


def test_where_nothing_is_loaded_loading_itself_checks() -> None:
    Room().check(ServedModel(names=("huge",), source="huge", n_bytes=100), 0)


def test_where_a_system_reports_them_as_used_they_are_not_counted_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "COUNTS_MAPPED_PAGES", False)
    Room().check(BIG, 7)


def test_where_the_system_reports_nothing_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(system, "available_memory", lambda: None)
    Room().check(BIG, 7)


def test_what_unloading_would_give_is_what_was_available_without_models() -> None:
    found = Room()
    error = NotEnoughMemoryError("no room", 20, 3)
    assert found.most_for(error, 0) is None, "nothing is known yet"
    found.check(BIG, 0)
    assert found.most_for(error, 0) == 16
    assert found.most_for(error, 6) == 10
    assert found.most_for(error, 15) == 3
    of_gpu = NotEnoughMemoryError("no room", 20, 3, is_of_gpu=True)
    assert found.most_for(of_gpu, 0) is None
