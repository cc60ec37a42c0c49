"""Samplers share scratch rows, and none sees what another one left there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from localgen.config import SamplingOptions
from localgen.engine.sampling.chain import Sampler
from localgen.engine.sampling.scratch import Scratch
from localgen.engine.sequence import Sequence
from localgen.engine.uniforms import UniformStream
from tests.fakes import fake_model

N_VOCAB = 100
OPTIONS = [
    {"do_sample": False, "suppress_tokens": [3]},
    {"top_k": 0, "top_p": 0.5},
    {"top_k": 0},
    {"top_k": 0, "typical_p": 0.9, "no_repeat_ngram_size": 2},
    {"top_k": 5, "top_p": 0.9, "sequence_bias": {(7,): 2.0}},
]


def chosen(options: dict[str, Any], scratch: Scratch | None) -> list[int]:
    """The tokens that one sampler chooses from five rows of random logits."""
    sampling = SamplingOptions(**{"do_sample": True, **options})
    sampler = Sampler(sampling, N_VOCAB, scratch=scratch)
    prompt_ids = np.array([1, 2], np.int32)
    sequence = Sequence(0, prompt_ids, 5, frozenset(), sampler, UniformStream(0, 0))
    for row in np.random.RandomState(4).standard_normal((5, N_VOCAB)).astype(np.float32):
        if scratch is not None:
            scratch.row[:], scratch.weights[:] = np.nan, np.nan  # of another call
        sequence.accept(sampler.sample(row, sequence))
    return sequence.new_token_ids.tolist()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_what_was_left_there_changes_no_token(options: dict[str, Any]) -> None:
    assert chosen(options, Scratch.of_size(N_VOCAB)) == chosen(options, None)


def test_calls_of_a_model_make_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_model() as model:
        monkeypatch.delattr(Scratch, "of_size")
        model.complete(["a", "b"], max_new_tokens=2, top_k=0, suppress_tokens=[3])
        model.generate(np.array([[1, 2]]), max_new_tokens=2, num_beams=2)
        model.score("abc")
