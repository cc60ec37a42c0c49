"""Losses of mixtures that were not measured, from those that were."""

from __future__ import annotations

import pytest

from localgen.mixtures.groups import Group
from localgen.mixtures.losses import planned, predicted, probed_type

LARGE, SMALL = ("Q8_0", "Q4_K", "Q2_K"), ("Q8_0", "IQ4_NL")


def group(name: str, ladder: tuple[str, ...]) -> Group:
    return Group(name, {name: 256}, {name: "F16"}, ladder)


GROUPS = [group("a", LARGE), group("b", LARGE), group("c", SMALL)]


def test_groups_are_measured_alone_once_and_types_together() -> None:
    """A group that has its ladder alone is measured once at the type of about 4.5 bits."""
    assert planned(GROUPS) == [
        ("Q4_K", None, None),
        (None, "Q4_K", None),
        (None, None, "IQ4_NL"),
        ("Q8_0", "Q8_0", None),
        ("Q4_K", "Q4_K", None),
        ("Q2_K", "Q2_K", None),
        (None, None, "Q8_0"),
    ]


def test_predictions_computed_by_hand() -> None:
    """Together, Q2_K loses ten times as much as Q4_K, and Q8_0 a tenth of it: so does each."""
    values = [0.03, 0.01, 0.2, 0.005, 0.05, 0.5, 0.02]
    measured = dict(zip(planned(GROUPS), values, strict=True))
    found = predicted(GROUPS, measured)
    assert found[0] == pytest.approx([0, 0.003, 0.03, 0.3])
    assert found[1] == pytest.approx([0, 0.001, 0.01, 0.1])
    assert found[2] == pytest.approx([0, 0.02, 0.2])


def test_nothing_lost_and_less_than_nothing() -> None:
    """A divergence within rounding may be below zero; a mixture's loss never is."""
    measured = dict.fromkeys(planned(GROUPS), -1e-9)
    assert predicted(GROUPS, measured) == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0]]


def test_the_probed_type_is_the_nearest_to_four_and_a_half_bits() -> None:
    assert probed_type(LARGE) == "Q4_K"
    assert probed_type(("Q8_0", "Q6_K")) == "Q6_K"
