"""Sequences with a history, and what processors make of a row of logits for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from localgen.config import SamplingOptions
from localgen.engine.backend import Logits
from localgen.engine.sampling.allowed_tokens import AllowedTokens
from localgen.engine.sampling.chain import Sampler
from localgen.engine.sampling.processors import make_processors
from localgen.engine.sequence import Sequence
from localgen.engine.trackers import TokenCounts, Tracker
from localgen.engine.uniforms import UniformStream

EOS = 2


def row(*values: float) -> Logits:
    return np.array(values, np.float32)


def sequence_after(
    prompt: Iterable[int],
    new: Iterable[int] = (),
    *,
    n_most: int = 9,
    eos: Iterable[int] = (EOS,),
    n_vocab: int = 6,
    **options: Any,
) -> Sequence:
    """A sequence that has generated ``new``, of ``n_most`` at most, with a sampler of ``options``
    and the trackers that these need."""
    sampling = SamplingOptions(**options)
    prompt_ids = np.array([*prompt], np.int32)
    trackers: list[Tracker] = [TokenCounts(prompt_ids, n_most)]
    if sampling.prefix_allowed_tokens_fn is not None:
        trackers.append(AllowedTokens(sampling.prefix_allowed_tokens_fn, 0, prompt_ids.tolist()))
    sequence = Sequence(
        index=0,
        prompt_ids=prompt_ids,
        max_new_tokens=n_most,
        eos_token_ids=frozenset(eos),
        sampler=Sampler(sampling, n_vocab),
        uniform=UniformStream(0, 0),
        trackers=tuple(trackers),
    )
    for token_id in new:
        sequence.accept(token_id)
    return sequence


def processed(logits: Logits, sequence: Sequence, **options: Any) -> Logits:
    """A copy of ``logits`` after the processors of ``options``."""
    scores = logits.copy()
    for process in make_processors(SamplingOptions(**options)):
        process(scores, sequence)
    return scores


def after(prompt: Iterable[int], new: Iterable[int] = (), **options: Any) -> list[float]:
    """What ``options`` make of six logits of 1 after a history; see ``sequence_after``."""
    keys = ("n_most", "eos")
    history = {key: options.pop(key) for key in keys if key in options}
    sequence = sequence_after(prompt, new, **history, **options)
    return processed(np.ones(6, np.float32), sequence, **options).tolist()
