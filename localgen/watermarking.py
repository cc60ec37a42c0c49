"""Find the watermark of ``watermarking_config`` in token ids, as transformers' detector does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from localgen._util.arrays import check_ids, to_numpy
from localgen._util.checks import check_int
from localgen.config import WatermarkingConfig, check_watermark
from localgen.engine.sampling.watermark import Watermark

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WatermarkDetectorOutput:
    """What a detector found in each row; all arrays are (rows,).

    num_tokens_scored: how many tokens count: those with ``context_width`` tokens before them, or
    one fewer with "selfhash", where a token is part of its own context. With
    ``ignore_repeated_ngrams`` a token counts once for each context. num_green_tokens: how many of
    these are green.
    green_fraction: num_green_tokens / num_tokens_scored. z_score: by how many standard deviations
    there are more green tokens than in a text without the mark. p_value: how likely such a text has
    as many. prediction: whether the row is marked. confidence: 1 - p_value.
    """

    num_tokens_scored: Numbers
    num_green_tokens: Numbers
    green_fraction: Numbers
    z_score: Numbers
    p_value: Numbers
    prediction: npt.NDArray[np.bool_]
    confidence: Numbers


class WatermarkDetector:
    """Tells texts with a watermark from texts without, given the options that marked them.

    model_config: ``model.config``, or a transformers config, of the model that generated; the mark
    depends on its ``vocab_size``. device: "cpu"; a text that transformers marked on a GPU is not
    found. ignore_repeated_ngrams: count each n-gram, a token and its context, once.
    max_cache_size: how many lists of green tokens are kept; "selfhash" needs none.
    """

    def __init__(
        self,
        model_config: Any,
        device: Any = "cpu",
        watermarking_config: WatermarkingConfig | Mapping[str, Any] | None = None,
        ignore_repeated_ngrams: bool = False,
        max_cache_size: int = 128,
    ) -> None:
        if str(device) != "cpu":
            raise ValueError(
                f"device must be 'cpu', got {device!r}: localgen marks texts as transformers does "
                f"on a CPU; the generators of GPUs give other green tokens"
            )
        if watermarking_config is None:
            raise TypeError("WatermarkDetector needs the watermarking_config that marked the texts")
        self._config = check_watermark("watermarking_config", watermarking_config)
        self._n_vocab = check_int("vocab_size", getattr(model_config, "vocab_size", None), 1)
        self._bos_token_id = getattr(model_config, "bos_token_id", None)
        self._ignore_repeated_ngrams = ignore_repeated_ngrams
        n_remembered = check_int("max_cache_size", max_cache_size, 0)
        self._watermark = Watermark(self._config, self._n_vocab, n_remembered)

    @overload
    def __call__(
        self, input_ids: Any, z_threshold: float = 3.0, return_dict: Literal[False] = False
    ) -> npt.NDArray[np.bool_]: ...

    @overload
    def __call__(
        self, input_ids: Any, z_threshold: float = 3.0, *, return_dict: Literal[True]
    ) -> WatermarkDetectorOutput: ...

    def __call__(
        self, input_ids: Any, z_threshold: float = 3.0, return_dict: bool = False
    ) -> npt.NDArray[np.bool_] | WatermarkDetectorOutput:
        """Return whether each row of ``input_ids`` (rows, length) is marked, bool (rows,), or with
        ``return_dict`` a ``WatermarkDetectorOutput``.

        Leave the prompt out, which is not marked. z_threshold: the z score above which a row
        counts as marked. A BOS that all rows begin with is left out. Raises ValueError.
        """
        ids = self._without_bos(self._checked(input_ids))
        counts = [self._count(row) for row in ids.tolist()]
        scored, green = np.array(counts, np.float64).T
        ratio = self._config.greenlist_ratio
        z_score = (green - ratio * scored) / np.sqrt(scored * ratio * (1 - ratio))
        prediction: npt.NDArray[np.bool_] = z_score > z_threshold
        if not return_dict:
            return prediction
        p_value = np.array([0.5 * math.erfc(z / math.sqrt(2)) for z in z_score])
        return WatermarkDetectorOutput(
            num_tokens_scored=scored,
            num_green_tokens=green,
            green_fraction=green / scored,
            z_score=z_score,
            p_value=p_value,
            prediction=prediction,
            confidence=1 - p_value,
        )

    def _checked(self, input_ids: Any) -> npt.NDArray[np.int64]:
        try:
            ids = np.asarray(to_numpy(input_ids))
        except ValueError:
            raise ValueError(
                "input_ids must be integers (rows, length), got rows of different lengths; pass "
                "them one by one, as input_ids=[row]"
            ) from None
        if ids.ndim != 2 or not ids.size or ids.dtype.kind not in "iu":
            raise ValueError(
                f"input_ids must be integers (rows, length), got {ids.dtype} {ids.shape}"
            )
        check_ids(ids.reshape(-1), self._n_vocab, "input_ids")
        return ids.astype(np.int64)

    def _without_bos(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        begins = ids[:, 0] == self._bos_token_id
        if begins.any() and not begins.all():
            raise ValueError("input_ids begin with BOS in some rows and not in others")
        ids = ids[:, 1:] if begins.all() else ids
        width = self._config.context_width
        if ids.shape[1] <= width:
            raise ValueError(
                f"input_ids must have more than context_width={width} tokens after BOS, got "
                f"{ids.shape[1]}"
            )
        return ids

    def _count(self, row: list[int]) -> tuple[int, int]:
        """Return how many tokens of a row are scored, and how many of these are green."""
        is_self = self._config.seeding_scheme == "selfhash"
        size = self._config.context_width + (not is_self)
        ngrams = Counter(tuple(row[i : i + size]) for i in range(len(row) - size + 1))
        n_scored = n_green = 0
        for ngram, count in ngrams.items():
            n_times = 1 if self._ignore_repeated_ngrams else count
            context = np.array(ngram if is_self else ngram[:-1])
            n_scored += n_times
            n_green += n_times * self._watermark.is_green(ngram[-1], context)
        return n_scored, n_green
