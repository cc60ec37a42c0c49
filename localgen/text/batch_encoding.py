"""Encoded texts as lists, arrays or tensors, padded; it knows token ids, not how they are made."""

from __future__ import annotations

import importlib
from collections import UserDict
from typing import Any

import numpy as np

from localgen._util.arrays import is_torch, to_torch
from localgen.text.padding import PaddingOptions


class BatchEncoding(UserDict[str, Any]):
    """``input_ids`` and ``attention_mask``, as items and as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["data"][name]
        except KeyError:
            raise AttributeError(name) from None

    def to(self, device: Any) -> BatchEncoding:
        """Return a copy with torch tensors moved to ``device``; other values are unchanged."""
        moved = {
            name: value.to(device) if is_torch(value) else value
            for name, value in self.data.items()
        }
        return BatchEncoding(moved)


def batch_encoding(
    sequences: list[list[int]],
    padding: PaddingOptions,
    return_tensors: str | None,
    *,
    single: bool,
    pad_token_id: int | None,
    padding_side: str,
) -> BatchEncoding:
    """Return token ids with their attention mask.

    return_tensors: "np" or "pt" for int64 (batch, length) arrays or tensors; None for lists, or
    arrays if padded. single: whether there is one sequence, which becomes a flat list.
    Raises ValueError if the sequences differ in length and are not padded, and ImportError if torch
    is missing.
    """
    if return_tensors not in (None, "np", "pt"):
        raise ValueError(f"return_tensors must be None, 'np' or 'pt', got {return_tensors!r}")
    masks = [[1] * len(ids) for ids in sequences]
    if not padding.pads and return_tensors is None:
        return BatchEncoding(
            input_ids=sequences[0] if single else sequences,
            attention_mask=masks[0] if single else masks,
        )
    length = _padded_length([len(ids) for ids in sequences], padding)
    if any(len(ids) < length for ids in sequences):
        if pad_token_id is None:
            raise ValueError(
                "padding needs a pad token, and this vocabulary has none; set "
                "tokenizer.pad_token_id"
            )
        sequences = [_padded(ids, pad_token_id, length, padding_side) for ids in sequences]
        masks = [_padded(mask, 0, length, padding_side) for mask in masks]
    arrays = {
        "input_ids": np.array(sequences, np.int64).reshape(len(sequences), -1),
        "attention_mask": np.array(masks, np.int64).reshape(len(sequences), -1),
    }
    if return_tensors == "pt":
        _import_torch()
        return BatchEncoding({name: to_torch(array) for name, array in arrays.items()})
    return BatchEncoding(arrays)


def _padded_length(lengths: list[int], padding: PaddingOptions) -> int:
    shortest, longest = min(lengths), max(lengths)
    if not padding.pads and shortest < longest:
        raise ValueError(
            f"the texts have {shortest} to {longest} tokens, which is not a rectangular array; "
            f"use padding=True"
        )
    if padding.pad_to is None:
        return longest
    if longest > padding.pad_to:
        raise ValueError(
            f"max_length={padding.pad_to} is too small for a text of {longest} tokens; use "
            f"truncation=True to cut it, or a larger max_length"
        )
    return padding.pad_to


def _padded(values: list[int], fill: int, length: int, side: str) -> list[int]:
    more = [fill] * (length - len(values))
    return [*more, *values] if side == "left" else [*values, *more]


def _import_torch() -> None:
    try:
        importlib.import_module("torch")
    except ImportError:
        raise ImportError("return_tensors='pt' needs torch: pip install torch") from None
