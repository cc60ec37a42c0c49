"""The watermark of Kirchenbauer et al. 2023: which tokens are green after others, and their bias.

The green tokens are the first of a permutation of the vocabulary, seeded by the tokens before. It
is the permutation of ``torch.randperm`` on a CPU, made with NumPy, so that transformers' detector
finds what localgen marks, and the other way round.
"""

from __future__ import annotations

import threading
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from localgen.config import SamplingOptions, WatermarkingConfig
from localgen.engine.backend import Logits, TokenIds
from localgen.engine.trackers import Mask

Ids = npt.NDArray[np.int64]

_SEEDS = 2**64 - 1
_TABLE_SIZE = 1_000_003
# With "selfhash" only this many of the best tokens are considered, as in transformers.
_N_CANDIDATES = 40

_of_thread = threading.local()


def first_of_permutation(n: int, k: int, seed: int) -> Ids:
    """Return the first ``k`` of ``torch.randperm(n)`` on a CPU with this seed, int64 (k,).

    torch swaps place t with a place from t on, t = 0, 1, …, drawn by a Mersenne Twister seeded with
    the lower 32 bits (``randperm_cpu`` in ATen's TensorFactories.cpp, for n below 2**32 / 20).
    NumPy's RandomState is the same twister, and its stream will not change.
    """
    places = _drawn_places(n, k, seed)
    steps = np.arange(k)
    # What lies at place t before step t came from the last earlier step that drew t.
    source = steps.copy()
    swapped = np.flatnonzero((places != steps) & (places < k))
    source[places[swapped]] = swapped  # where a place repeats, the last one counts
    while not np.array_equal(source, source[source]):
        source = source[source]
    # What step t takes lies where it always did, or came from the last earlier step that drew it.
    taken: Ids = places.copy()
    in_order = np.sort(places << 32 | steps)
    repeats = np.flatnonzero(np.diff(in_order >> 32) == 0)
    earlier, later = in_order[repeats] & 0xFFFFFFFF, in_order[repeats + 1] & 0xFFFFFFFF
    taken[later] = source[earlier]
    return taken


def is_among_first(item: int, n: int, k: int, seed: int) -> bool:
    """Return whether ``item`` is in ``first_of_permutation(n, k, seed)``, a few times as fast."""
    places = _drawn_places(n, k, seed)
    place, step = item, 0
    # It is taken by the first step that draws its place. Until then, only the step of that place
    # itself moves it: to the place which that step draws.
    while not (places[step : place + 1] == place).any():
        if place >= k:
            return False
        place, step = int(places[place]), place + 1
    return True


def _drawn_places(n: int, k: int, seed: int) -> Ids:
    """Return the place that each of the first ``k`` steps swaps with its own, int64 (k,)."""
    draws = _twister(seed).randint(0, 2**32, size=k, dtype=np.uint32)
    steps = np.arange(k)
    places: Ids = steps + draws % (n - steps).astype(np.uint32)
    return places


def _twister(seed: int) -> np.random.RandomState:
    """Return this thread's generator, seeded anew: to make one takes as long as all its draws."""
    if not hasattr(_of_thread, "twister"):
        _of_thread.twister = np.random.RandomState()
    twister: np.random.RandomState = _of_thread.twister
    twister.seed(seed & 0xFFFFFFFF)
    return twister


def highest(scores: Logits, n: int) -> Ids:
    """Return the places of the ``n`` highest scores (n_vocab,), highest first; of equal ones the
    first comes first, and NaN last."""
    negative, n = -scores, min(n, len(scores))
    near = np.flatnonzero(~(negative > np.partition(negative, n - 1)[n - 1]))
    return near[np.argsort(negative[near], kind="stable")[:n]]


def make_watermark(options: SamplingOptions, n_vocab: int) -> Watermark | None:
    """Return the watermark that ``options`` ask for."""
    config = options.watermarking_config
    if config is None:
        return None
    assert isinstance(config, WatermarkingConfig), "since __post_init__"
    return Watermark(config, n_vocab)


class Watermark:
    """One configuration's green tokens, for rows of ``n_vocab`` logits.

    n_remembered: how many lists of green tokens are kept.
    """

    def __init__(self, config: WatermarkingConfig, n_vocab: int, n_remembered: int = 32) -> None:
        self._config = config
        self._n_vocab = n_vocab
        self._n_green = int(n_vocab * config.greenlist_ratio)
        self._green = lru_cache(n_remembered)(self._find_green)
        self._is_self = config.seeding_scheme == "selfhash"
        n_hashes = min(n_vocab, _TABLE_SIZE) if self._is_self else 0
        self._hashes = 1 + first_of_permutation(_TABLE_SIZE, n_hashes, config.hashing_key)

    def is_green(self, token_id: int, context: TokenIds) -> bool:
        """Return whether a token is green after ``context`` (n,), of ``context_width`` tokens or
        more; with "selfhash" they end with the token itself."""
        if self._is_self:  # of each list, a single token is looked up
            return is_among_first(token_id, self._n_vocab, self._n_green, self._seed(context))
        return bool(self._after(context)[token_id])

    def applied(self, scores: Logits, tokens: TokenIds) -> Logits:
        """Return ``scores`` (n_vocab,) with the bias added to what is green after ``tokens`` (n,);
        unchanged if there are fewer than ``context_width``."""
        if len(tokens) < self._config.context_width:
            return scores
        marked: Logits = scores.copy()
        green = self._green_candidates(scores, tokens) if self._is_self else self._after(tokens)
        marked[green] += np.float32(self._config.bias)
        return marked

    def _green_candidates(self, scores: Logits, tokens: TokenIds) -> list[int]:
        """Return those of the best tokens that are green in the context that they end."""
        before = tokens[len(tokens) - self._config.context_width + 1 :]
        best = highest(scores, _N_CANDIDATES).tolist()
        return [each for each in best if self.is_green(each, np.append(before, each))]

    def _seed(self, context: TokenIds) -> int:
        key = self._config.hashing_key
        if not self._is_self:
            seed = key * int(context[-1])
        else:
            hashes = self._hashes[context[-self._config.context_width :] % _TABLE_SIZE]
            # 64-bit integers that wrap around, as torch's do.
            seed = int((np.int64(key) * hashes * hashes[-1:]).min())
        return seed % _SEEDS

    def _after(self, context: TokenIds) -> Mask:
        return self._green(self._seed(context))

    def _find_green(self, seed: int) -> Mask:
        green = np.zeros(self._n_vocab, np.bool_)
        green[first_of_permutation(self._n_vocab, self._n_green, seed)] = True
        return green
