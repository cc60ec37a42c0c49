"""Any options on any logits keep the tokens, and draw the one, that a brute-force sampler does.

The reference sorts everything and loops over ids. It sees the options of a ``GenerationConfig`` and
the tokens so far, so this also holds what lies between a call and its sampler.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from localgen.engine.backend import Batch
from localgen.engine.uniforms import UniformStream
from tests.fakes import EOS, N_VOCAB, FakeBackend, fake_model

Row = npt.NDArray[np.float64]
TINY = 1e-5  # how far a cut or a draw may lie from where exact arithmetic puts it
TOP_K = 50  # the default, as in transformers

IDS = st.sampled_from([0, 1, 5, 97, 98, 200, EOS, N_VOCAB - 1])
WORDS = st.lists(IDS, min_size=1, max_size=3)
PENALTY = st.one_of(st.just(0.0), st.floats(-2, 2))
PROCESSORS: dict[str, st.SearchStrategy[Any]] = {
    "repetition_penalty": st.floats(0.3, 3),
    "frequency_penalty": PENALTY,
    "presence_penalty": PENALTY,
    "no_repeat_ngram_size": st.integers(0, 3),
    "bad_words_ids": st.lists(WORDS, min_size=1, max_size=4),
    "sequence_bias": st.dictionaries(WORDS.map(tuple), st.floats(-20, 20), min_size=1),
    "suppress_tokens": st.lists(IDS, max_size=4),
    "min_new_tokens": st.integers(0, 2),
    "encoder_repetition_penalty": st.floats(0.3, 3),
    "encoder_no_repeat_ngram_size": st.integers(0, 3),
    "min_length": st.integers(0, 9),
    "begin_suppress_tokens": st.lists(IDS, max_size=4),
    "prefix_allowed_tokens_fn": st.lists(IDS, min_size=1, max_size=6).map(
        lambda ids: lambda _batch_id, input_ids: [*ids, input_ids[-1]]
    ),
    "forced_bos_token_id": IDS,
    "forced_eos_token_id": st.one_of(IDS, st.lists(IDS, min_size=1, max_size=3)),
    "exponential_decay_length_penalty": st.tuples(st.integers(0, 3), st.floats(0.5, 3)),
}
FILTERS: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.floats(0.05, 5),
    "top_k": st.one_of(st.integers(0, 8), st.integers(0, 2 * N_VOCAB)),
    "top_p": st.floats(0, 1),
    "min_p": st.floats(0, 1),
    "typical_p": st.floats(0.01, 1),
}
N_NEW, SEEDS = st.integers(1, 6), st.integers(0, 2**16)
OPTIONS = st.one_of(
    st.fixed_dictionaries({"max_new_tokens": N_NEW}, optional=PROCESSORS),
    st.fixed_dictionaries(
        {"max_new_tokens": N_NEW, "do_sample": st.just(True), "seed": SEEDS},
        optional={**PROCESSORS, **FILTERS},
    ),
)
KINDS = {
    "peaked": lambda noise, ranks: 12 - 1.9 * np.log1p(ranks) + 0.5 * noise,
    "flat": lambda noise, ranks: 0.1 * noise,
    "ties": lambda noise, ranks: np.round(2 * noise) + 17,
    "half removed": lambda noise, ranks: np.where(noise < 0, -np.inf, noise),
    "few left": lambda noise, ranks: np.where(ranks < 4, noise, -np.inf),
    "all equal": lambda noise, ranks: np.full(len(noise), -3.5),
    "negative": lambda noise, ranks: noise - 40,
    "few distinct": lambda noise, ranks: np.minimum(ranks, 3) * -0.7,
}


class RowsBackend(FakeBackend):
    """Gives rows of one kind of logits, another row for each number of tokens."""

    def __init__(self, kind: str, seed: int) -> None:
        super().__init__()
        self.kind, self.seed_of_rows = kind, seed

    def row(self, n_tokens: int) -> npt.NDArray[np.float32]:
        random = np.random.RandomState([self.seed_of_rows, n_tokens])
        noise, ranks = random.standard_normal(N_VOCAB), random.permutation(N_VOCAB)
        return np.asarray(KINDS[self.kind](noise, ranks), np.float32)

    def decode(self, batch: Batch, *args: Any) -> Any:
        logits = super().decode(batch, *args)
        (seq_id,) = set(batch.seq_ids.tolist())
        logits[-1] = self.row(len(self.kv[seq_id]))
        return logits


def processed(logits: npt.NDArray[np.float32], tokens: list[int], n_prompt: int, o: Any) -> Row:
    """Return the logits after the processors, in transformers' order, one id after another."""
    row = logits.astype(np.float64)
    for ids, bias in (o.get("sequence_bias") or {}).items():
        if ends_with(tokens, ids[:-1]):
            row[ids[-1]] += bias
    favor = o.get("encoder_repetition_penalty", 1.0)
    for token in set(tokens[:n_prompt]):
        row[token] = row[token] * favor if row[token] > 0 else row[token] / favor
    penalty = o.get("repetition_penalty", 1.0)
    for token in set(tokens):
        row[token] = row[token] / penalty if row[token] > 0 else row[token] * penalty
    for token, count in Counter(tokens[n_prompt:]).items():
        row[token] -= count * o.get("frequency_penalty", 0.0) + o.get("presence_penalty", 0.0)
    size = o.get("no_repeat_ngram_size", 0)
    of_prompt = o.get("encoder_no_repeat_ngram_size", 0)
    for gram in ngrams(tokens, size) + ngrams(tokens[:n_prompt], of_prompt):
        if ends_with(tokens, gram[:-1]):
            row[gram[-1]] = -np.inf
    ends = {EOS, N_VOCAB - 1}
    for word in o.get("bad_words_ids", ()):
        if ends_with(tokens, word[:-1]) and not (len(word) == 1 and word[0] in ends):
            row[word[-1]] = -np.inf
    n_new = len(tokens) - n_prompt
    n_least = o.get("min_new_tokens", o.get("min_length", 0) - n_prompt)
    if n_new < n_least:
        row[list(ends)] = -np.inf
    return constrained(row, tokens, n_new, ends, o)


def constrained(row: Row, tokens: list[int], n_new: int, ends: set[int], o: Any) -> Row:
    """Return the row after the processors that leave only certain tokens, and those after them."""
    if "prefix_allowed_tokens_fn" in o:
        allowed = o["prefix_allowed_tokens_fn"](0, tokens)
        row = only(allowed, row if row[allowed].max() > -np.inf else 0)
    if "forced_bos_token_id" in o and len(tokens) == 1:
        row = only([o["forced_bos_token_id"]], 0)
    if "forced_eos_token_id" in o and n_new == o["max_new_tokens"] - 1:
        row = only(np.atleast_1d(o["forced_eos_token_id"]).tolist(), 0)
    start, factor = o.get("exponential_decay_length_penalty", (0, 1.0))
    for token in ends if n_new > start else ():
        if row[token] > -np.inf:
            row[token] += abs(row[token]) * (factor ** (n_new - start) - 1)
    row[list(o.get("suppress_tokens", ()))] = -np.inf
    if n_new == int(len(tokens) - n_new == 1 and "forced_bos_token_id" in o):
        row[list(o.get("begin_suppress_tokens", ()))] = -np.inf
    return row


def only(ids: list[int], scores: Any) -> Row:
    """Return a row with ``scores``, or their values at these ids, and -inf elsewhere."""
    row = np.full(N_VOCAB, -np.inf)
    row[ids] = np.broadcast_to(scores, N_VOCAB)[ids]
    return row


def ngrams(tokens: list[int], size: int) -> list[list[int]]:
    return [tokens[i : i + size] for i in range(len(tokens) - size + 1)] if size else []


def ends_with(tokens: list[int], prefix: Any) -> bool:
    return not len(prefix) or tokens[-len(prefix) :] == list(prefix)


def kept(row: Row, o: Any, nudge: float) -> set[int]:
    """Return the ids that the filters keep, with top_p, min_p and typical_p nudged to keep more."""
    ids = [i for i in np.argsort(-row, kind="stable").tolist() if row[i] > -np.inf]
    k = o.get("top_k", TOP_K) or len(ids)
    ids = [i for i in ids if row[i] >= row[ids[min(k, len(ids)) - 1]] - max(nudge, 0.0)]
    weights = np.exp(row[ids] - row[ids[0]])
    before = weights.cumsum() - weights
    top_p, min_p = o.get("top_p", 1.0), o.get("min_p", 0.0)
    stays = (before < (top_p + nudge) * weights.sum()) | (top_p == 1.0)
    stays &= weights >= min_p * (1 - nudge)
    ids = [i for i, stay in zip(ids, stays, strict=True) if stay] or ids[:1]
    mass = o.get("typical_p", 1.0)
    if mass == 1.0:
        return set(ids)
    p = np.exp(row[ids] - row[ids[0]])
    p /= p.sum()
    distance = np.abs(-np.log(p) - (p * -np.log(p)).sum())
    order = np.argsort(distance, kind="stable")
    last = min(int((p[order].cumsum() < mass + nudge).sum()), len(ids) - 1)
    return {i for i, d in zip(ids, distance, strict=True) if d <= distance[order[last]] + nudge}


def share_around(row: Row, ids: set[int], token: int, o: Any) -> tuple[float, float]:
    """Return the part of the draw's unit interval that ``token`` may have.

    Candidates that a filter sorted come likeliest first, where ties have no order; else by id.
    """
    weights = {i: float(np.exp(row[i] - max(row[j] for j in ids))) for i in ids}
    is_sorted = (
        0 < o.get("top_k", TOP_K) < N_VOCAB or o.get("top_p", 1.0) < 1 or o.get("min_p", 0) > 0
    )
    if is_sorted:
        near = 1e-6 * max(1.0, abs(row[token]))
        first = sum(w for i, w in weights.items() if row[i] > row[token] + near)
        last = sum(w for i, w in weights.items() if row[i] >= row[token] - near)
    else:
        first = sum(w for i, w in weights.items() if i < token)
        last = first + weights[token]
    return first / sum(weights.values()), last / sum(weights.values())


@pytest.mark.filterwarnings("ignore::UserWarning")  # of lengths, and of tokens that are not forced
@given(OPTIONS, st.lists(IDS, min_size=1, max_size=12), st.sampled_from(list(KINDS)), SEEDS)
def test_any_options(options: dict[str, Any], prompt: list[int], kind: str, seed: int) -> None:
    """Protects every option beside every other: processors, filters and the draw."""
    backend = RowsBackend(kind, seed)
    more: dict[str, Any] = {"return_dict_in_generate": True, "output_scores": True}
    refused = "has only tokens of suppress_tokens"
    try:
        out = fake_model(backend=backend).generate([prompt], [[1] * len(prompt)], **more, **options)
    except ValueError as error:
        if "left no token" not in str(error) and refused not in str(error):
            raise
        reject()
    tokens, uniforms = list(prompt), UniformStream(options.get("seed", 0), 0)
    for (scores,), token in zip(out.scores, out.sequences[0, len(prompt) :].tolist(), strict=True):
        row = processed(backend.row(len(tokens)), tokens, len(prompt), options)
        found = set(np.flatnonzero(scores > -np.inf).tolist())
        assert token in found
        if "do_sample" in options:
            row /= options.get("temperature", 1.0)
            check_draw(row, found, token, uniforms(), options)
        else:
            assert found == set(np.flatnonzero(row > -np.inf).tolist())
            assert row[token] >= row.max() - TINY * max(1.0, abs(row.max()))
        np.testing.assert_allclose(scores[list(found)], row[list(found)], rtol=1e-4, atol=1e-4)
        tokens.append(token)


def check_draw(row: Row, found: set[int], token: int, uniform: float, o: Any) -> None:
    """Of equal scores any may be kept, so scores are compared; where rounding decides, counts."""
    fewest, most = (kept(row, o, nudge) for nudge in (-TINY, TINY))
    assert len(fewest) <= len(found) <= len(most)
    if fewest == most:
        np.testing.assert_allclose(np.sort(row[list(found)]), np.sort(row[list(most)]))
        first, last = share_around(row, found, token, o)
        assert first - TINY <= uniform <= last + TINY
