"""localgen's samplers against those of the very llama.cpp in use, on the same rows of logits.

llama.cpp's are called through its own functions. Their random numbers cannot be set, so for XTC and
mirostat what is kept is compared, with llama.cpp's coin or choice given to localgen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from localgen.config import SamplingOptions
from localgen.engine.sampling import dry, keep
from localgen.engine.sampling.chain import Sampler
from localgen.engine.sequence import Sequence
from localgen.llama.library import llama
from localgen.text.tokenizer import Tokenizer
from models.make_tiny import bpe_vocab, spm_vocab
from tests.llama.samplers import Reference, Row, chain, their_dry
from tests.llama.vocab_files import load

LLAMA_CPP_ORDER = "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature"
N_VOCAB = 300


def make_row(seed: int, scale: float, shape: str) -> Row:
    random = np.random.RandomState(seed)
    noise = random.standard_normal(N_VOCAB)
    if shape == "peaked":
        noise = -1.9 * np.log1p(random.permutation(N_VOCAB)) + 0.1 * noise
    row = (noise * scale).astype(np.float32)
    if shape == "some removed":
        row[random.random_sample(N_VOCAB) < 0.5] = -np.inf
    return row


ROWS = st.builds(
    make_row,
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.3, 1.0, 4.0, 12.0]),
    st.sampled_from(["normal", "peaked", "some removed"]),
)


def sequence_of(
    tokens: list[int], breakers: dry.Breakers, uniform: Callable[[], float], **options: Any
) -> Sequence:
    sampling = SamplingOptions(**{"do_sample": True, "top_k": 0, **options})
    sampler = Sampler(sampling, N_VOCAB, breakers=breakers)
    prompt = np.array(tokens, np.int32)
    return Sequence(
        index=0,
        prompt_ids=prompt,
        max_new_tokens=200,
        eos_token_ids=frozenset(),
        sampler=sampler,
        uniform=uniform,  # type: ignore[arg-type]
        trackers=tuple(sampler.new_trackers(prompt, 200)),
    )


def scores_of(
    row: Row,
    tokens: list[int] | None = None,
    breakers: dry.Breakers | None = None,
    uniform: Callable[[], float] = lambda: 0.0,
    **options: Any,
) -> Row:
    """localgen's scores after all samplers."""
    sequence = sequence_of(tokens or [1], breakers or {}, uniform, **options)
    sampler: Any = sequence.sampler
    return sampler.scores(row, sequence).copy()


def kept_of(scores: Row) -> list[int]:
    return np.flatnonzero(scores > -np.inf).tolist()


def check_same(ours: Row, theirs: Row) -> None:
    assert kept_of(ours) == kept_of(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def is_near(values: npt.NDArray[Any], bound: float) -> bool:
    """Whether rounding could decide on which side of a bound a value is."""
    values = np.asarray(values, np.float64)
    return bool((np.abs(values - bound) < 1e-5 * max(1.0, abs(bound))).any())


@given(ROWS, st.floats(0.1, 4))
def test_top_n_sigma(row: Row, n: float) -> None:
    valid = row[row > -np.inf].astype(np.float64)
    assume(not is_near(valid, valid.max() - n * valid.std()))
    check_same(
        scores_of(row, top_n_sigma=n),
        Reference(llama().llama_sampler_init_top_n_sigma(n)).apply(row)[0],
    )


@given(ROWS, st.floats(0.05, 3), st.floats(0, 3), st.floats(0, 3))
def test_dynamic_temperature(row: Row, temperature: float, spread: float, exponent: float) -> None:
    options: dict[str, Any] = {"dynatemp_range": spread, "dynatemp_exponent": exponent}
    # Near 0, the part of the largest entropy is all rounding, and so is what is divided by it.
    assume(keep.entropy(row) > 1e-3)
    theirs, _ = Reference(llama().llama_sampler_init_temp_ext(temperature, spread, exponent)).apply(
        row
    )
    ours = scores_of(row, temperature=temperature, **options)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)


@given(ROWS, st.floats(0.005, 0.6))
def test_xtc(row: Row, threshold: float) -> None:
    """With a probability of 1 llama.cpp's coin is always for it."""
    assume(not is_near(keep.probabilities(row), threshold))
    theirs, _ = Reference(llama().llama_sampler_init_xtc(1.0, threshold, 0, 1)).apply(row)
    check_same(scores_of(row, xtc_probability=1.0, xtc_threshold=threshold), theirs)


def test_the_coin_of_xtc() -> None:
    """It falls with the probability that was asked for, here and there."""
    row = np.zeros(N_VOCAB, np.float32)
    row[:2] = 20.0
    sampler = Reference(llama().llama_sampler_init_xtc(0.3, 0.1, 0, 5))
    theirs = sum(bool((sampler.apply(row)[0] > -np.inf).sum() < N_VOCAB) for _ in range(1000))
    coins = iter(np.linspace(0, 1, 1000, endpoint=False).tolist())
    ours = sum(
        bool((scores_of(row, uniform=lambda: next(coins), xtc_probability=0.3) == -np.inf).any())
        for _ in range(1000)
    )
    assert ours in (300, 301)
    assert abs(theirs - 300) < 6 * math.sqrt(1000 * 0.3 * 0.7)


# --- DRY ---


@pytest.fixture(scope="module", params=["bpe", "spm"])
def vocab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = bpe_vocab() if request.param == "bpe" else spm_vocab()
    return load(tmp_path_factory.mktemp("vocab") / "vocab.gguf", made)


BREAKERS = st.lists(
    st.sampled_from(["\n", ":", '"', "*", "a", "the ", " t", "ab", "a b", "e\n", "ä", "x" * 50]),
    max_size=4,
    unique=True,
)


@st.composite
def repetitive(draw: st.DrawFn, ids: tuple[int, ...]) -> list[int]:
    """Tokens with repetitions, the last of which the sequence ends with."""
    few = draw(st.lists(st.sampled_from(ids), min_size=1, max_size=4))
    parts = st.one_of(st.just(few), st.lists(st.sampled_from(ids), max_size=3))
    tokens = [token for part in draw(st.lists(parts, min_size=1, max_size=12)) for token in part]
    return tokens or few


DRY = st.fixed_dictionaries(
    {
        "dry_multiplier": st.floats(0.01, 5),
        "dry_base": st.sampled_from([1.0, 1.0000001, 1.3, 1.75, 1e5]),
        "dry_allowed_length": st.integers(0, 4),
        "dry_penalty_last_n": st.one_of(st.integers(1, 12), st.just(64)),
    }
)


@given(st.data(), DRY, BREAKERS)
def test_dry(vocab: Any, data: st.DataObject, options: dict[str, Any], texts: list[str]) -> None:
    """Histories with repetitions, breakers of a token, of several and within one."""
    ids = tuple(vocab.tokenize(b'ab: "the* a\nb ab', add_special=False, parse_special=False))
    tokens = data.draw(repetitive(tuple(int(each) for each in ids)))
    row = np.linspace(-3, 3, vocab.n_vocab).astype(np.float32)
    theirs, _ = their_dry(vocab, texts, tokens, options).apply(row)
    found, penalty = dry.penalties(
        np.array(tokens[-options["dry_penalty_last_n"] :], np.int32),
        Tokenizer(vocab).dry_breakers(tuple(texts)),
        multiplier=options["dry_multiplier"],
        base=options["dry_base"],
        allowed_length=options["dry_allowed_length"],
    )
    ours = row.copy()
    ours[found] -= penalty
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


# --- mirostat ---


def follow(reference: Reference, rows: list[Row], **options: Any) -> None:
    """Both keep the same tokens at each step, when localgen is given what llama.cpp chose: that
    holds the tokens kept, and how mu follows the choice."""
    chosen: list[int] = []
    sequence = sequence_of([1], {}, lambda: 0.5, **options)
    sampler: Any = sequence.sampler
    tracker: Any = sequence.trackers[0]
    for row in rows:
        # Mirostat 1's k may be beyond an int, which llama.cpp makes it: undefined in C.
        if tracker.mu > 25:
            break
        theirs, token = reference.apply(row)
        ours = sampler.scores(row, sequence)
        assert kept_of(ours) == kept_of(theirs)
        assert token is not None
        p = keep.probabilities(ours)
        tracker.chose(float(p[token]))
        sequence.accept(token)
        chosen.append(token)
    assert len(set(chosen)) > 1


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("version", [1, 2])
def test_mirostat(version: int, seed: int) -> None:
    """Sixty steps each, from flat to peaked rows, so that mu goes up and down."""
    random = np.random.RandomState(seed)
    tau, eta = float(random.uniform(0.5, 6)), float(random.choice([0.05, 0.1, 0.4]))
    rows = [
        make_row(1000 * seed + i, float(random.choice([0.5, 2.0, 4.0])), "peaked")
        for i in range(60)
    ]
    lib = llama()
    if version == 1:
        reference = Reference(lib.llama_sampler_init_mirostat(N_VOCAB, seed, tau, eta, 100))
    else:
        reference = Reference(lib.llama_sampler_init_mirostat_v2(seed, tau, eta))
    follow(reference, rows, mirostat=version, mirostat_tau=tau, mirostat_eta=eta)


# --- the whole chain ---

CHAIN = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0.3, 2),
        "top_n_sigma": st.floats(0.3, 4),
        "top_k": st.integers(1, N_VOCAB),
        "top_p": st.floats(0.05, 0.99),
        "min_p": st.floats(0.001, 0.5),
        "typical_p": st.floats(0.1, 0.99),
        "xtc_threshold": st.floats(0.01, 0.5),
        "dynatemp_range": st.floats(0.1, 0.3),
    },
)
NAMES = ["temperature", "top_n_sigma", "top_k", "top_p", "min_p", "typ_p", "xtc"]


def their_chain(names: list[str], o: dict[str, Any]) -> Reference:
    lib = llama()
    threshold = o.get("xtc_threshold")
    temperature, spread = o.get("temperature", 1.0), o.get("dynatemp_range", 0.0)
    made = {
        "temperature": lambda: lib.llama_sampler_init_temp_ext(temperature, spread, 1.0),
        "top_n_sigma": lambda: lib.llama_sampler_init_top_n_sigma(o.get("top_n_sigma", -1.0)),
        "top_k": lambda: lib.llama_sampler_init_top_k(o.get("top_k", 0)),
        "top_p": lambda: lib.llama_sampler_init_top_p(o.get("top_p", 1.0), 0),
        "min_p": lambda: lib.llama_sampler_init_min_p(o.get("min_p", 0.0), 0),
        "typ_p": lambda: lib.llama_sampler_init_typical(o.get("typical_p", 1.0), 0),
        "xtc": lambda: lib.llama_sampler_init_xtc(
            0.0 if threshold is None else 1.0, threshold or 0.1, 0, 1
        ),
    }
    return chain(*(made[name]() for name in names))


@given(st.integers(0, 2**32 - 1), CHAIN, st.permutations(NAMES))
def test_samplers_in_any_order(seed: int, options: dict[str, Any], names: list[str]) -> None:
    """The same samplers in the same order keep the same tokens, with the same scores.

    llama.cpp's locally typical sampling has no entropy after top_n_sigma, which leaves -inf.
    """
    assume("top_n_sigma" not in options or "typical_p" not in options)
    # Where top_n_sigma left fewer than k, llama.cpp's top_k keeps -inf, and counts it.
    assume(not {"top_n_sigma", "top_k", "dynatemp_range"} <= options.keys())
    row = make_row(seed, 2.0, "normal")
    theirs, _ = their_chain(names, options).apply(row)
    more: dict[str, Any] = {"xtc_probability": 1.0} if "xtc_threshold" in options else {}
    ours = scores_of(row, samplers=names, **options, **more)
    if kept_of(ours) == kept_of(theirs):
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-3)
        return
    # Then rounding decided: what is kept depends on the last digits.
    nudged = [row * np.float32(1 + change) for change in (-1e-4, 1e-4)]
    others = [scores_of(each, samplers=names, **options, **more) for each in nudged]
    assert any(kept_of(each) != kept_of(ours) for each in others)
