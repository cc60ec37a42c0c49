"""What moves where, proposed by pure functions; what follows of it is in test_kv_cache.py."""

from __future__ import annotations

import pytest

from localgen.engine.slot_allocator import relocation_target, seq_id_for
from tests.engine.test_kv_cache import caches, left


@pytest.mark.parametrize(("pins", "target"), [(True, 1), (False, None)])
def test_only_what_is_pinned_takes_the_place_of_the_source(pins: bool, target: int | None) -> None:
    """There is no other place: what is pinned must not be lost, and anything else is dropped."""
    _, cache = caches(2)
    moving = left(cache, b"m" * 20, pins=pins)
    source = left(cache, b"s" * 20)
    assert relocation_target([moving, source], 0, source) == target
    assert relocation_target([moving, source, None], 0, source) == 2


def test_new_sequence_takes_the_place_of_its_source_before_that_of_what_is_pinned() -> None:
    """What is pinned could only move to where the source is."""
    _, cache = caches(2)
    pinned = left(cache, b"p" * 20, pins=True)
    source = left(cache, b"s" * 20)
    assert seq_id_for([pinned, source], source, 5, copies=True) == 1
    assert seq_id_for([pinned, source, None], source, 5, copies=True) == 2
