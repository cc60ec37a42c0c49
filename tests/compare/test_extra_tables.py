"""Tables of what is measured only where it is asked for."""

from __future__ import annotations

from localgen.benchmark.measuring import Spread
from localgen.compare.extra_tables import extra_tables
from localgen.compare.level_result import ChatAgreement, Divergence, LevelResult, SpeedAtDepth
from localgen.compare.results import Comparison

REPLIES = (Divergence("Hi", "a b", "a c", 1), Divergence("Hi", "a", "a", 1))
CHATS = ChatAgreement(share_equal=0.5, low=0.095, high=0.905, first_difference=1.0, replies=REPLIES)


def measured(*levels: LevelResult) -> Comparison:
    return Comparison(source="m.gguf", settings={}, levels=levels)


def test_nothing_is_shown_of_what_was_not_measured() -> None:
    assert extra_tables(measured(LevelResult(name="F16", decode_tps=Spread(1, 1, 1)))) == []


def test_chats() -> None:
    (table,) = extra_tables(measured(LevelResult(name="F16"), LevelResult(name="Q4", chats=CHATS)))
    assert table.heading == "Replies to 2 chats"
    assert table.rows == (("Q4", "50.0 %", "9.5 to 90.5", "1 token"),)


def test_speed_at_depth_and_what_a_level_lacks() -> None:
    """A merged result may have other depths for other machines; one depth has no prefill."""
    both = (
        SpeedAtDepth(depth=64, prefill_tps=Spread(500, 490, 510), decode_tps=Spread(40, 38, 42)),
        SpeedAtDepth(depth=1024, prefill_tps=None, decode_tps=Spread(30, 30, 30)),
    )
    levels = (LevelResult(name="A", at_depths=both), LevelResult(name="B", at_depths=both[1:]))
    (table,) = extra_tables(measured(*levels))
    assert table.titles == (
        *("level", "prefill @ 64", "decode @ 64", "prefill @ 1024", "decode @ 1024"),
    )
    assert table.rows == (
        ("A", "500 ±10", "40.0 ±2.0", "-", "30.0"),
        ("B", "-", "-", "-", "30.0"),
    )


def test_energy() -> None:
    level = LevelResult(
        name="A", prefill_joules=Spread(0.01, 0.01, 0.01), decode_joules=Spread(0.5, 0.4, 0.6)
    )
    (table,) = extra_tables(measured(level))
    assert table.rows == (("A", "0.010", "0.500 ±0.100"),)
