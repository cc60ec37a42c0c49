"""Any options on any logits keep the tokens, and draw the one, that a brute-force sampler does.

The reference sorts everything and loops over ids. It sees the options of a ``GenerationConfig`` and
the tokens so far, so this also holds what lies between a call and its sampler.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from localgen.engine.backend import Batch
from localgen.engine.uniforms import UniformStream
from localgen.samplers import SAMPLERS
from tests.fakes import BOS, END_OF_TURN, EOS, N_VOCAB, FakeBackend, fake_model

Row = npt.NDArray[np.float64]
TINY = 1e-5  # how far a cut or a draw may lie from where exact arithmetic puts it
NUDGES = (-TINY, 0.0, TINY)
TOP_K = 50  # the default, as in transformers
NAMES = {BOS: b"<bos>", EOS: b"<eos>", END_OF_TURN: b"<end>"}

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
DRY: dict[str, st.SearchStrategy[Any]] = {
    "dry_multiplier": st.floats(0.1, 3),
    "dry_base": st.floats(1, 3),
    "dry_allowed_length": st.integers(0, 3),
    "dry_penalty_last_n": st.integers(0, 20),
    "dry_sequence_breakers": st.lists(st.sampled_from(["a", "b", "ab", "aba", "\x05"]), max_size=2),
}
FILTERS: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.floats(0.05, 5),
    "top_k": st.one_of(st.integers(0, 8), st.integers(0, 2 * N_VOCAB)),
    "top_p": st.floats(0, 1),
    "min_p": st.floats(0, 1),
    "typical_p": st.floats(0.01, 1),
}
MORE_FILTERS: dict[str, st.SearchStrategy[Any]] = {
    **FILTERS,
    "epsilon_cutoff": st.floats(0, 0.3),
    "eta_cutoff": st.floats(0, 0.9),
    "top_h": st.floats(0.01, 1),
    "top_n_sigma": st.floats(0.1, 3),
    "xtc_probability": st.floats(0, 1),
    "xtc_threshold": st.floats(0.01, 0.6),
    "dynatemp_range": st.floats(0, 2),
    "dynatemp_exponent": st.floats(0, 3),
    "samplers": st.permutations(SAMPLERS),
}
MIROSTAT: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.floats(0.3, 3),
    "mirostat": st.sampled_from([1, 2]),
    "mirostat_tau": st.floats(0.2, 6),
    "mirostat_eta": st.floats(0, 1),
}
N_NEW, SEEDS = st.integers(1, 6), st.integers(0, 2**16)
SAMPLED = {"max_new_tokens": N_NEW, "do_sample": st.just(True), "seed": SEEDS}
OPTIONS = st.one_of(
    st.fixed_dictionaries({"max_new_tokens": N_NEW}, optional={**PROCESSORS, **DRY}),
    st.fixed_dictionaries(SAMPLED, optional={**PROCESSORS, **FILTERS}),
    st.fixed_dictionaries(SAMPLED, optional={**PROCESSORS, **DRY, **MORE_FILTERS}),
    st.fixed_dictionaries(SAMPLED, optional={**PROCESSORS, **DRY, **MIROSTAT}),
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
    if "samplers" not in o:
        row = penalized(row, tokens, n_prompt, o)
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
    return row if "samplers" in o else dry_penalized(row, tokens, o)


def penalized(row: Row, tokens: list[int], n_prompt: int, o: Any) -> Row:
    penalty = o.get("repetition_penalty", 1.0)
    for token in set(tokens):
        row[token] = row[token] / penalty if row[token] > 0 else row[token] * penalty
    for token, count in Counter(tokens[n_prompt:]).items():
        row[token] -= count * o.get("frequency_penalty", 0.0) + o.get("presence_penalty", 0.0)
    return row


def dry_penalized(row: Row, tokens: list[int], o: Any) -> Row:
    """DRY by its definition, in a vocabulary where a token is a byte, or has a name with many."""
    n_last, allowed = o.get("dry_penalty_last_n", 64), o.get("dry_allowed_length", 2)
    last = tokens[len(tokens) - min(n_last, len(tokens)) :]
    breakers = [list(text.encode()) for text in o.get("dry_sequence_breakers", '\n:"*')]
    breakers += [[i] for i, name in NAMES.items() for each in breakers if bytes(each) in name]
    ends = [
        max(i + len(b) for b in breakers if last[i : i + len(b)] == b)
        for i in range(len(last))
        if any(last[i : i + len(b)] == b for b in breakers)
    ]
    limit = len(last) - (ends[-1] if ends else 0)
    longest: dict[int, int] = {}
    for place in range(1, len(last)):
        length = 0
        while length < min(place, limit) and last[place - 1 - length] == last[-1 - length]:
            length += 1
        longest[last[place]] = max(length, longest.get(last[place], 0))
    for token, length in longest.items():
        if len(last) > allowed and limit >= allowed <= length and [token] not in breakers:
            growth = o.get("dry_base", 1.75) ** (length - allowed)
            row[token] -= o.get("dry_multiplier", 0.0) * growth
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


# Each keeps some of the candidates' scores s, by the option's value x; a nudge moves its cut.
Keeps = Callable[[Row, float, float], npt.NDArray[np.bool_]]


def softmax(s: Row) -> Row:
    weights = np.exp(s - s.max())
    return weights / weights.sum()


def entropy_terms(p: Row) -> Row:
    return np.array([-x * np.log(x) if x > 0 else 0.0 for x in p])


def by_rank(s: Row, stays: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """``stays``, of the scores falling, in the scores' own order."""
    result = np.zeros(len(s), np.bool_)
    result[np.argsort(-s, kind="stable")] = stays
    return result


def keeps_top_k(s: Row, k: float, nudge: float) -> npt.NDArray[np.bool_]:
    return (s >= np.sort(s)[-min(int(k), len(s))] - max(nudge, 0.0)) & (s > -np.inf)


def keeps_top_p(s: Row, x: float, nudge: float) -> npt.NDArray[np.bool_]:
    p = -np.sort(-softmax(s))
    before = p.cumsum() - p
    before[0] = -1
    return by_rank(s, before < x + nudge) & (s > -np.inf)


def keeps_typical(s: Row, x: float, nudge: float) -> npt.NDArray[np.bool_]:
    p = softmax(s)
    distance = np.array([abs(-np.log(y) - entropy_terms(p).sum()) if y else np.inf for y in p])
    order = np.argsort(distance, kind="stable")
    last = min(int((p[order].cumsum() < x + nudge).sum()), len(s) - 1)
    return distance <= distance[order[last]] + nudge


def keeps_top_h(s: Row, x: float, nudge: float) -> npt.NDArray[np.bool_]:
    p = softmax(-np.sort(-s)[:100])
    terms = entropy_terms(p)
    stays = (terms.cumsum() <= x * terms.sum() + nudge) & (p > 0)
    stays[0] = True
    return by_rank(s, np.append(stays, np.zeros(len(s) - len(p), np.bool_)))


def keeps_eta(s: Row, x: float, nudge: float) -> npt.NDArray[np.bool_]:
    lowest = min(x, np.sqrt(x) * np.exp(-entropy_terms(softmax(s)).sum()))
    return keeps_epsilon(s, lowest, nudge)


def keeps_epsilon(s: Row, x: float, nudge: float) -> npt.NDArray[np.bool_]:
    return (softmax(s) >= x * (1 - nudge)) | (s == s.max())


def keeps_xtc(s: Row, x: float, nudge: float) -> npt.NDArray[np.bool_]:
    above = softmax(s) >= x * (1 - nudge)
    if above.sum() < 2:
        return np.ones(len(s), np.bool_)
    last = min(np.flatnonzero(above).tolist(), key=lambda i: float(s[i]))
    return ~above | (np.arange(len(s)) == last)


KEEPS: dict[str, Keeps] = {
    "top_k": keeps_top_k,
    "top_p": keeps_top_p,
    "min_p": lambda s, x, nudge: (np.exp(s - s.max()) >= x * (1 - nudge)) | (s == s.max()),
    "typical_p": keeps_typical,
    "epsilon_cutoff": keeps_epsilon,
    "eta_cutoff": keeps_eta,
    "top_h": keeps_top_h,
    "xtc": keeps_xtc,
}
OFF = {"top_p": 1.0, "typical_p": 1.0}


def heated(s: Row, o: Any) -> Row:
    temperature, spread = o.get("temperature", 1.0), o.get("dynatemp_range", 0.0)
    if spread and len(s) == 1:
        return s
    if spread:
        part = entropy_terms(softmax(s)).sum() / np.log(len(s))
        low = max(0.0, temperature - spread)
        part = max(part, 0.0) ** o.get("dynatemp_exponent", 1.0)
        temperature = low + (temperature + spread - low) * part
    if temperature < 1e-45:
        return np.where(np.arange(len(s)) == s.argmax(), 0, -np.inf)
    scaled = s / temperature
    return np.where(scaled < -3e38, -np.inf, scaled)


def sampled(
    row: Row, tokens: list[int], n_prompt: int, o: Any, uniform: Callable[[], float], nudge: float
) -> dict[int, float]:
    """Return the candidates that all samplers keep, in the order asked for, and their scores."""
    row = row.copy()
    ids = np.arange(N_VOCAB)
    nudge *= max(1.0, float(np.abs(row[np.isfinite(row)]).max()))
    for name in o.get("samplers", SAMPLERS):
        value = o.get(name, TOP_K if name == "top_k" else OFF.get(name, 0.0))
        if name in ("penalties", "dry") and "samplers" in o:
            gone = np.setdiff1d(np.arange(N_VOCAB), ids)
            after = penalized if name == "penalties" else None
            row = after(row, tokens, n_prompt, o) if after else dry_penalized(row, tokens, o)
            row[gone] = -np.inf
        elif name == "temperature":
            row[ids] = heated(row[ids], o)
        elif name == "top_n_sigma" and value:
            valid = row[ids][row[ids] > -np.inf]
            lowest = valid.max() - max(value * valid.std() + nudge, 0.0)
            row[row < lowest] = -np.inf
        elif name == "xtc":
            chance, value = o.get("xtc_probability", 0.0), o.get("xtc_threshold", 0.1)
            if chance > 0 and value <= 0.5 and len(ids) > 1 and uniform() <= chance:
                ids = ids[keeps_xtc(row[ids], value, nudge)]
        elif name in KEEPS and value != OFF.get(name, 0.0):
            stays = KEEPS[name](row[ids], value, nudge)
            ids = ids[stays if stays.any() else row[ids] == row[ids].max()]
    return {i: row[i] for i in ids.tolist() if row[i] > -np.inf}


def by_mirostat(row: Row, o: Any, mu: float, nudge: float) -> dict[int, float]:
    """Return the candidates that mirostat keeps, after the temperature, and their scores."""
    row = heated(row, o)
    p = softmax(row)
    if o["mirostat"] == 2:
        kept = [i for i in range(N_VOCAB) if p[i] > 0 and -np.log2(p[i]) <= mu + nudge]
        return {i: row[i] for i in kept or [int(row.argmax())]}
    order = [i for i in np.argsort(-row, kind="stable").tolist() if p[i] > 0]
    first = p[order[:100]]
    if len(first) < 2:
        return {order[0]: row[order[0]]}
    t = [np.log((i + 2) / (i + 1)) for i in range(len(first) - 1)]
    b = [np.log(first[i] / first[i + 1]) for i in range(len(first) - 1)]
    s_hat = sum(x * y for x, y in zip(t, b, strict=True)) / sum(x * x for x in t)
    if s_hat < 1e-6:
        k = len(order) if mu > np.log2(N_VOCAB - 1) + nudge else 1.0
    else:
        e = s_hat - 1
        log_k = np.log(e / (1 - N_VOCAB**-e)) + mu * np.log(2)
        k = float(np.exp(min(log_k / s_hat, 99)))
    return {i: row[i] for i in order[: max(1, int(min(k * (1 + nudge), len(order))))]}


def share_around(row: dict[int, float], token: int, o: Any) -> tuple[float, float]:
    """Return the part of the draw's unit interval that ``token`` may have.

    Candidates that top_k, top_p and min_p alone cut come likeliest first, where ties have no order;
    all others by id.
    """
    best = max(row.values())
    weights = {i: float(np.exp(score - best)) for i, score in row.items()}
    cuts = 0 < o.get("top_k", TOP_K) < N_VOCAB or o.get("top_p", 1.0) < 1 or o.get("min_p", 0) > 0
    if cuts and not is_on_by_steps(o):
        near = 1e-6 * max(1.0, abs(row[token]))
        first = sum(w for i, w in weights.items() if row[i] > row[token] + near)
        last = sum(w for i, w in weights.items() if row[i] >= row[token] - near)
    else:
        first = sum(w for i, w in weights.items() if i < token)
        last = first + weights[token]
    return first / sum(weights.values()), last / sum(weights.values())


def is_on_by_steps(o: Any) -> bool:
    names = ("epsilon_cutoff", "eta_cutoff", "top_h", "top_n_sigma", "xtc_probability")
    others = ("dynatemp_range", "mirostat")
    return "samplers" in o or any(o.get(name) for name in (*names, *others))


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
    tokens, uniform = list(prompt), UniformStream(options.get("seed", 0), 0)
    mu = 2 * options.get("mirostat_tau", 5.0)
    for (scores,), token in zip(out.scores, out.sequences[0, len(prompt) :].tolist(), strict=True):
        row = processed(backend.row(len(tokens)), tokens, len(prompt), options)
        found = {i: float(scores[i]) for i in np.flatnonzero(scores > -np.inf).tolist()}
        assert token in found
        if "do_sample" not in options:
            assert found.keys() == set(np.flatnonzero(row > -np.inf).tolist())
            assert row[token] >= row.max() - TINY * max(1.0, abs(row.max()))
            np.testing.assert_allclose(list(found.values()), row[list(found)], rtol=1e-4, atol=1e-4)
        elif options.get("mirostat"):
            check_draw(
                found, token, [by_mirostat(row, options, mu, n) for n in NUDGES], uniform(), options
            )
            p = softmax(np.array([*found.values()]))[list(found).index(token)]
            mu -= options.get("mirostat_eta", 0.1) * (
                -np.log2(p) - options.get("mirostat_tau", 5.0)
            )
        else:
            streams = [uniform.copy() for _ in NUDGES]
            expected = [
                sampled(row, tokens, len(prompt), options, stream, nudge)
                for stream, nudge in zip(streams, NUDGES, strict=True)
            ]
            uniform = streams[1]
            check_draw(found, token, expected, uniform(), options)
        tokens.append(token)


def check_draw(
    found: dict[int, float], token: int, expected: list[dict[int, float]], uniform: float, o: Any
) -> None:
    """Of equal scores any may be kept, so scores are compared; not where rounding decides."""
    low, scores, high = (relative(each) for each in expected)
    if len(low) == len(scores) == len(high):
        np.testing.assert_allclose(relative(found), scores, rtol=1e-4, atol=1e-4)
        first, last = share_around(found, token, o)
        assert first - TINY <= uniform <= last + TINY


def relative(row: dict[int, float]) -> list[float]:
    """The scores, rising, below the best; a temperature near 0 makes rounding large."""
    return sorted(score - max(row.values()) for score in row.values())
