"""The index of a job's rows: what counts, and how little memory it takes."""

from __future__ import annotations

import pickle
import tracemalloc

from localgen.jobs.ray.index import Index, short_hash

HASH = "0123456789abcdef" * 2


def test_a_result_counts_before_an_error_and_only_the_first_one() -> None:
    index = Index()
    assert index.set_failed((0, 1))
    assert not index.set_failed((0, 1))
    assert (index.n_done, index.n_failed, index.is_failed((0, 1))) == (0, 1, True)
    assert index.set_done((0, 1), HASH)
    assert not index.set_done((0, 1), HASH)
    assert not index.set_failed((0, 1))
    assert (index.n_done, index.n_failed, index.is_failed((0, 1))) == (1, 0, False)


def test_rows_are_told_apart_by_file_and_line() -> None:
    index = Index()
    index.set_done((1, 4096), HASH)
    assert index.hash_of((1, 4096)) == short_hash(HASH)
    for other in ((0, 4096), (1, 4095), (1, 0), (1, 8192)):
        assert index.hash_of(other) is None


def test_no_hash_means_that_a_row_is_unknown_or_failed() -> None:
    for value in (0, 1, 2):
        index = Index()
        index.set_done((0, 1), f"{value:016x}" * 2)
        assert index.hash_of((0, 1)) is not None
        assert not index.is_failed((0, 1))


def test_it_takes_8_bytes_a_row_and_a_far_line_a_page() -> None:
    tracemalloc.start()
    index = Index()
    for line in range(1, 100_001):
        index.set_done((0, line), HASH)
    index.set_done((0, 10**15), HASH)
    n_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert n_bytes < 10 * 100_000
    assert len(pickle.dumps(index)) < 10 * 100_000
