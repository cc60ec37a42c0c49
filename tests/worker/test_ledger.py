"""Which calls are refused because the worker ended while it computed them."""

from __future__ import annotations

from localgen.worker.ledger import CrashLedger


def test_ends_are_counted_by_call() -> None:
    ledger = CrashLedger()
    assert [ledger.blame(b"a"), ledger.blame(b"a"), ledger.blame(b"b")] == [1, 2, 1]
    assert [ledger.count(each) for each in (b"a", b"b", b"c")] == [2, 1, 0]


def test_a_call_that_ran_to_its_end_is_forgotten() -> None:
    ledger = CrashLedger()
    ledger.blame(b"a")
    ledger.clear(b"a")
    assert ledger.count(b"a") == 0


def test_entries_are_dropped_after_an_hour_and_above_a_thousand() -> None:
    now = 0.0
    ledger = CrashLedger(lambda: now)
    ledger.blame(b"old")
    now = 3601.0
    assert ledger.count(b"old") == 0
    for i in range(1025):
        ledger.blame(b"%d" % i)
    assert ledger.count(b"0") == 0
    assert ledger.count(b"1") == 1
