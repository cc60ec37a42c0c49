"""Checks token ids before they are decoded, and cleans text after; it knows no vocabulary."""

from __future__ import annotations

from typing import Any

import numpy as np

from localgen._util.arrays import check_ids, to_numpy

# transformers' list for clean_up_tokenization_spaces: English, as older tokenizers split it.
_CLEAN = (
    *((f" {mark}", mark) for mark in ".?!,"),
    (" ' ", "'"),
    *((f" {ending}", ending) for ending in ("n't", "'m", "'s", "'ve", "'re")),
)


def clean_up(text: str) -> str:
    """Return ``text`` without spaces before punctuation and English contractions."""
    for spaced, closed in _CLEAN:
        text = text.replace(spaced, closed)
    return text


def is_batch(token_ids: Any) -> bool:
    """Return whether ``token_ids`` is several sequences: nested lists, or a matrix."""
    if isinstance(token_ids, (list, tuple)):
        return bool(token_ids) and np.ndim(to_numpy(token_ids[0])) > 0
    return np.ndim(to_numpy(token_ids)) == 2


def id_list(token_ids: Any, n_vocab: int, what: str) -> list[int]:
    """Return checked ids of one sequence, or of a single id, as a list.

    what: names the method in errors. Raises ValueError unless they are integers in [0, n_vocab).
    """
    ids = np.atleast_1d(np.asarray(to_numpy(token_ids)))
    if ids.ndim != 1:
        raise ValueError(f"{what} takes one sequence of token ids, got shape {ids.shape}")
    if ids.size and ids.dtype.kind not in "iu":
        raise ValueError(f"token ids must be integers, got {ids.dtype}")
    check_ids(ids, n_vocab, what)
    checked: list[int] = ids.tolist()
    return checked
