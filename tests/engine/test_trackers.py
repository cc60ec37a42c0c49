"""Trackers follow, take back and copy: against counting everything again."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from localgen.engine.trackers import TokenCounts
from localgen.engine.uniforms import UniformStream

IDS = st.integers(0, 6)


def counted(prompt: list[int], new: list[int]) -> dict[int, float]:
    return {token: float(new.count(token)) for token in {*prompt, *new}}


def state(counts: TokenCounts) -> dict[int, float]:
    return dict(zip(counts.seen.tolist(), counts.generated.tolist(), strict=True))


@given(
    prompt=st.lists(IDS, min_size=1, max_size=5),
    moves=st.lists(st.one_of(IDS, st.integers(-3, -1)), max_size=30),
)
def test_counts_follow_every_accept_and_rollback(prompt: list[int], moves: list[int]) -> None:
    """A number ≥ 0 is a token, one below takes as many back; a copy made on the way stays."""
    counts = TokenCounts(np.array(prompt, np.int32), 30)
    new: list[int] = []
    for move in moves:
        twin, before = counts.copy(), counted(prompt, new)
        if move >= 0:
            counts.accept(move)
            new.append(move)
        else:
            n_back = min(-move, len(new))
            counts.rollback(n_back)
            del new[len(new) - n_back :]
        assert state(counts) == counted(prompt, new)
        assert state(twin) == before


@given(n_used=st.integers(0, 200), seed=st.integers(0, 2**64 - 1))
def test_a_copied_stream_goes_on_with_the_same_numbers(n_used: int, seed: int) -> None:
    stream = UniformStream(seed, 3)
    for _ in range(n_used):
        stream()
    twin = stream.copy()
    assert [stream() for _ in range(80)] == [twin() for _ in range(80)]


def test_the_numbers_of_a_stream_are_those_of_philox() -> None:
    """They are part of what a seed promises: the same in every version."""
    key = np.array([5, 2], np.uint64)
    expected = np.random.Generator(np.random.Philox(key=key)).random(100).tolist()
    stream = UniformStream(5, 2)
    assert [stream() for _ in range(100)] == expected
