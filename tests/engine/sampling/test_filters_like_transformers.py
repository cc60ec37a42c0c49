"""Any filters on any row keep what transformers' own keep; runs where it is installed.

``test_chain`` compares recorded cases everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.sampling.sequences import sequence_after

torch = pytest.importorskip("torch")
logits_process = pytest.importorskip("transformers.generation.logits_process")

N_VOCAB = 200
FILTERS: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.floats(0.2, 3),
    "top_h": st.floats(0.05, 0.95),
    "top_k": st.integers(1, N_VOCAB),
    "top_p": st.floats(0.05, 0.99),
    "min_p": st.floats(0.001, 0.9),
    "typical_p": st.floats(0.1, 0.99),
    "epsilon_cutoff": st.floats(1e-4, 0.5),
    "eta_cutoff": st.floats(1e-4, 0.9),
}
# In transformers' order, with the name of the argument.
CLASSES = {
    "temperature": ("TemperatureLogitsWarper", "temperature"),
    "top_h": ("TopHLogitsWarper", "top_h"),
    "top_k": ("TopKLogitsWarper", "top_k"),
    "top_p": ("TopPLogitsWarper", "top_p"),
    "min_p": ("MinPLogitsWarper", "min_p"),
    "typical_p": ("TypicalLogitsWarper", "mass"),
    "epsilon_cutoff": ("EpsilonLogitsWarper", "epsilon"),
    "eta_cutoff": ("EtaLogitsWarper", "epsilon"),
}
Row = npt.NDArray[np.float32]


def theirs(row: Row, options: dict[str, Any], at_least: int) -> Any:
    scores = torch.from_numpy(row)[None]
    for name, (made, argument) in CLASSES.items():
        if name in options:
            arguments = {argument: options[name]}
            if name not in ("temperature", "top_h"):
                arguments["min_tokens_to_keep"] = at_least
            scores = getattr(logits_process, made)(**arguments)(None, scores)
    return scores[0].numpy()


def ours(row: Row, options: dict[str, Any], at_least: int) -> Any:
    more = {"top_k": 0, **options}
    sequence = sequence_after([1], [], n_most=4, eos=[2], n_vocab=N_VOCAB, do_sample=True, **more)
    sampler: Any = sequence.sampler
    return sampler.scores(row, sequence, at_least).copy()


def kept(scores: Row) -> list[int]:
    return np.flatnonzero(scores > -np.inf).tolist()


@settings(max_examples=300, deadline=None)
@given(
    st.fixed_dictionaries({}, optional=FILTERS),
    st.integers(0, 2**16),
    st.sampled_from([0.5, 2.0, 6.0]),
    st.sampled_from([1, 1, 3]),
)
def test_any_filters(options: dict[str, Any], seed: int, scale: float, at_least: int) -> None:
    """Sampling keeps at least one token, beam sampling one more than there are ends.

    transformers' top_h may leave fewer, and then its beams have nothing to choose.
    """
    if at_least > 1:
        options.pop("top_h", None)
    row = (np.random.RandomState(seed).standard_normal(N_VOCAB) * scale).astype(np.float32)
    expected, scores = theirs(row, options, at_least), ours(row, options, at_least)
    if kept(scores) == kept(expected):
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)
        return
    # Then rounding decided: what is kept depends on the last digits.
    others = [ours(row * np.float32(1 + change), options, at_least) for change in (-1e-4, 1e-4)]
    assert any(kept(each) != kept(scores) for each in others)


def test_the_order_of_all_filters() -> None:
    """The default order of ``samplers`` is that of transformers' classes."""
    from localgen.samplers import SAMPLERS
    from tests.real import make_warpers

    steps = make_warpers.chain_steps(
        {"temperature": 0.5, "top_h": 0.5, "top_k": 9, "top_p": 0.5, "min_p": 0.5,
         "typical_p": 0.5, "epsilon_cutoff": 0.1, "eta_cutoff": 0.1}
    )  # fmt: skip
    names = {made: name for name, (made, _) in CLASSES.items()}
    assert [names[made] for made, _ in steps] == [each for each in SAMPLERS if each in CLASSES]
