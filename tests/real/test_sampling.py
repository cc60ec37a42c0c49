"""Samplers on SmolLM2: DRY, with breakers as its vocabulary splits them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from localgen import LocalModel
from localgen.engine.sampling import dry
from tests.llama.samplers import their_dry


@pytest.mark.real
def test_dry_on_a_real_vocabulary(smollm2: LocalModel) -> None:
    """The default breakers, and one that is several tokens, over texts that repeat."""
    vocab: Any = smollm2._backend.vocab
    texts = ["\n", ":", '"', "*", "\n\n###", " user"]
    row = np.zeros(vocab.n_vocab, np.float32)
    breakers = smollm2.tokenizer.dry_breakers(tuple(texts))
    options = {"dry_multiplier": 0.8, "dry_base": 1.75, "dry_allowed_length": 2}
    text = 'the cat sat on the mat: "the cat sat on the rug"\n\n### a user said the cat sat on'
    ids = smollm2.tokenizer.encode(text)
    n_penalized = 0
    for n_tokens in range(1, len(ids) + 1):
        tokens = ids[:n_tokens]
        more = {**options, "dry_penalty_last_n": 64}
        theirs, _ = their_dry(vocab, texts, tokens, more).apply(row)
        found, penalty = dry.penalties(
            np.array(tokens, np.int32), breakers, multiplier=0.8, base=1.75, allowed_length=2
        )
        ours = row.copy()
        ours[found] -= penalty
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
        n_penalized += len(found)
    assert n_penalized > 3
