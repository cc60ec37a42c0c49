"""Token ids as callers pass them ↔ rows of real tokens; torch tensors without importing torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from localgen.config import GenerationConfig
from localgen.engine.backend import TokenIds

Matrix = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_NOT_ENCODED = (
    "hold integers, got text; encode it by model.tokenizer(text, return_tensors='np'), or give it "
    "to complete()"
)
_SEVERAL_TEXTS = "be one text or its token ids, got a list of texts; complete() takes several texts"


def is_torch(value: object) -> bool:
    """Whether ``value`` is a torch tensor; torch is not imported for the question."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def to_numpy(value: Any) -> Any:
    """A torch tensor as a NumPy array; anything else as it is."""
    return value.detach().cpu().numpy() if is_torch(value) else value


def to_torch(array: npt.NDArray[Any]) -> Any:
    """``array`` as a torch tensor on the CPU; torch must be imported already."""
    return sys.modules["torch"].from_numpy(np.ascontiguousarray(array))


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts as given, (batch, length) int64, and as rows of real tokens, int32 each."""

    matrix: Matrix
    rows: list[TokenIds]
    is_torch: bool


def parse_prompts(
    input_ids: Any,
    attention_mask: Any,
    n_vocab: int,
    pad_token_id: int | None,
    eos_ids: frozenset[int],
) -> Prompts:
    """Check ``input_ids`` and ``attention_mask`` and take the padding out.

    Accepts one prompt or a batch: lists, NumPy arrays or torch tensors. Without a mask, pad tokens
    are taken for padding only where the pad token is none of ``eos_ids``, as in transformers: a
    token that ends a turn may well be part of a prompt.
    Raises ValueError for anything that is not a batch of non-empty rows of ids in [0, n_vocab).
    """
    matrix = _matrix(input_ids)
    if attention_mask is not None:
        mask = _mask(attention_mask, matrix)
    elif pad_token_id is not None and pad_token_id not in eos_ids:
        mask = matrix != pad_token_id
        mask[~mask.any(axis=1)] = True  # a row of pad tokens alone is its own prompt
    else:
        mask = np.ones(matrix.shape, np.bool_)
    _check_rows(mask, from_caller=attention_mask is not None)
    rows = [row[kept] for row, kept in zip(matrix, mask, strict=True)]
    for index, row in enumerate(rows):
        check_ids(row, n_vocab, f"input_ids, row {index}")
    return Prompts(matrix, [row.astype(np.int32) for row in rows], is_torch(input_ids))


def one_of(input_ids: Any, inputs: Any) -> Any:
    """The prompts, which have two names in transformers; TypeError unless one of them is given."""
    if (input_ids is None) == (inputs is None):
        what = "neither of them" if inputs is None else "both"
        raise TypeError(f"generate() takes input_ids, or inputs, which means the same; got {what}")
    return inputs if input_ids is None else input_ids


def check_ids(ids: npt.NDArray[Any], n_vocab: int, what: str) -> None:
    """A ValueError unless every id is in [0, n_vocab)."""
    bad = ids[(ids < 0) | (ids >= n_vocab)]
    if len(bad):
        raise ValueError(f"{what}: token id {bad[0]} is outside the vocabulary, 0 to {n_vocab - 1}")


def id_row(ids: Any, n_vocab: int, what: str) -> TokenIds:
    """One prompt given as token ids, as int32 (n,); ValueError if it is empty or not ids."""
    array = _integers(to_numpy(ids), what, _SEVERAL_TEXTS)
    if not array.ndim:
        raise ValueError(
            f"{what} must be a text or a non-empty list of token ids, got the number {array}; one "
            f"prompt of token ids is a list in a list, as [[1, 2, 3]]"
        )
    if array.ndim != 1 or not array.size:
        raise ValueError(
            f"{what} must be a text or a non-empty list of token ids, got shape {array.shape}"
        )
    check_ids(array, n_vocab, what)
    return array.astype(np.int32)


def _integers(value: Any, what: str, if_text: str) -> npt.NDArray[Any]:
    """``value`` as an array of integers; ``if_text`` is what it must be, said where it is text."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(
            f"{what}: rows differ in length; pad them to one width and pass attention_mask, "
            f"as tokenizer(texts, padding=True) does"
        ) from None
    if array.size and array.dtype.kind not in "iu":
        wants = f"hold integers, got {array.dtype}"
        texts = {"U": if_text, "S": "hold integers, got bytes; decode them to a str first"}
        raise ValueError(f"{what} must {texts.get(array.dtype.kind, wants)}")
    return array


def _matrix(input_ids: Any) -> Matrix:
    if isinstance(input_ids, Mapping):
        raise TypeError("input_ids is what a tokenizer returned: pass **inputs, or its input_ids")
    array = _integers(to_numpy(input_ids), "input_ids", _NOT_ENCODED)
    if array.ndim == 1 and array.size:
        array = array[None, :]
    if array.ndim != 2 or not array.shape[0]:
        raise ValueError(
            f"input_ids must be a prompt (length,) or a batch (batch, length) with at least one "
            f"row, got shape {array.shape}"
        )
    if not array.shape[1]:
        raise ValueError(f"the prompt is empty: input_ids has shape {array.shape}")
    return array.astype(np.int64)


def _mask(attention_mask: Any, matrix: Matrix) -> Mask:
    if isinstance(attention_mask, GenerationConfig):
        raise TypeError("the second argument is attention_mask: pass generation_config=… by name")
    try:
        array = np.asarray(to_numpy(attention_mask))
    except ValueError:
        raise ValueError("attention_mask: rows differ in length") from None
    if array.ndim == 1:
        array = array[None, :]
    if array.shape != matrix.shape:
        raise ValueError(
            f"attention_mask must have the shape of input_ids, {matrix.shape}, got {array.shape}"
        )
    if not np.isin(array, (0, 1)).all():
        raise ValueError("attention_mask must hold only 0 and 1")
    return array.astype(np.bool_)


def _check_rows(mask: Mask, from_caller: bool) -> None:
    """Each row must have real tokens, all next to each other."""
    for index, row in enumerate(mask):
        real = np.flatnonzero(row)
        source = "attention_mask" if from_caller else "the mask inferred from pad tokens"
        if not len(real):
            raise ValueError(f"{source}, row {index}: the prompt is empty, every position is 0")
        if real[-1] - real[0] + 1 != len(real):
            raise ValueError(
                f"{source}, row {index}: real tokens must be next to each other, but a 0 is "
                f"between them"
            )


def pad_right(rows: list[TokenIds], pad_token_id: int) -> Matrix:
    """Rows of different lengths as one int64 matrix, padded on the right."""
    matrix = np.full((len(rows), max(map(len, rows))), pad_token_id, np.int64)
    for target, row in zip(matrix, rows, strict=True):
        target[: len(row)] = row
    return matrix
