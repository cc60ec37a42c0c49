"""Packed masks against the plain indexing that they replace."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from localgen.engine.sampling.masks import limit, limits


@given(
    allowed=hnp.arrays(np.bool_, st.integers(1, 70)),
    data=st.data(),
)
def test_only_allowed_tokens_keep_their_logits(allowed: np.ndarray, data: st.DataObject) -> None:
    """Any number, +inf and -inf included; lengths that are no multiple of 8."""
    numbers = st.floats(width=32, allow_nan=False)
    logits = data.draw(hnp.arrays(np.float32, len(allowed), elements=numbers))
    packed = np.packbits(allowed, bitorder="little")
    most = limits(packed, np.empty(8 * len(packed), np.float32))
    row = limit(logits, most, np.empty_like(logits))
    assert row.tolist() == np.where(allowed, logits, -np.inf).tolist()


def test_a_logit_that_is_no_number_is_not_hidden() -> None:
    """The model's error is reported, wherever it is."""
    most = limits(np.array([0b01], np.uint8), np.empty(8, np.float32))
    row = limit(np.array([1, np.nan], np.float32), most, np.empty(2, np.float32))
    assert row[0] == 1
    assert np.isnan(row[1])
