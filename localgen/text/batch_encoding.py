"""Encoded texts as lists, arrays or tensors, padded; it knows token ids, not how they are made."""

from __future__ import annotations

import copy
import importlib
from collections import UserDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn

import numpy as np

from localgen._util.arrays import is_torch, to_numpy, to_torch
from localgen.text.offsets import Offset
from localgen.text.padding import PaddingOptions, pad, padded_length

# What fills each column; that of input_ids is the pad token.
_FILL: dict[str, Any] = {
    "attention_mask": 0, "token_type_ids": 0, "special_tokens_mask": 1, "offset_mapping": (0, 0),
}  # fmt: skip
Columns = dict[str, list[list[Any]]]


@dataclass(frozen=True)
class Encoding:
    """One encoded text, padding included: what ``BatchEncoding[0]`` returns.

    locate: returns ``offsets``.
    """

    ids: list[int]
    attention_mask: list[int]
    tokens: list[str]
    special_tokens_mask: list[int]
    locate: Callable[[], list[Offset]] = field(repr=False, compare=False)

    @cached_property
    def offsets(self) -> list[Offset]:
        """For each token its first character, and the one after its last; (0, 0) for tokens that
        are not from the text. Raises ValueError if the vocabulary changes the text."""
        return self.locate()

    def char_to_token(self, char_pos: int) -> int | None:
        """Return the index of the first token that covers a character; None if there is none."""
        covers = (i for i, (start, end) in enumerate(self.offsets) if start <= char_pos < end)
        return next(covers, None)


class BatchEncoding(UserDict[str, Any]):
    """``input_ids``, ``attention_mask`` and other columns, as items and as attributes.

    ``batch[0]`` is the ``Encoding`` of a text. A pickled copy has the columns only.
    """

    def __init__(self, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data or {})
        self._encoding_of: Callable[[int], Encoding] | None = None
        self._n_texts = 0

    def attach(self, n_texts: int, encoding_of: Callable[[int], Encoding]) -> None:
        """Set what returns the encoding of one of the texts."""
        self._n_texts, self._encoding_of = n_texts, encoding_of

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["data"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            return self.data[key]
        if isinstance(key, slice):
            return {name: values[key] for name, values in self.data.items()}
        return self._encoding(key)

    def __getstate__(self) -> dict[str, Any]:
        return {"data": self.data, "_encoding_of": None, "_n_texts": 0}

    def to(self, device: Any, *, non_blocking: bool = False) -> BatchEncoding:
        """Return a copy with torch tensors moved to ``device``; other values are unchanged."""
        options = {"non_blocking": True} if non_blocking else {}
        moved = copy.copy(self)
        moved.data = {
            name: value.to(device, **options) if is_torch(value) else value
            for name, value in self.data.items()
        }
        return moved

    def convert_to_tensors(
        self, tensor_type: str | None = None, prepend_batch_axis: bool = False
    ) -> BatchEncoding:
        """Turn the lists into arrays ("np") or tensors ("pt"), and return the encoding itself.

        prepend_batch_axis: make each value a batch of one. Raises ValueError for rows that differ
        in length.
        """
        check_tensor_type(tensor_type)
        if tensor_type is not None:
            rows = {
                name: [value] if prepend_batch_axis else value for name, value in self.data.items()
            }
            self.data = {name: _tensor(name, value, tensor_type) for name, value in rows.items()}
        return self

    # --- the texts ---

    @property
    def is_fast(self) -> bool:
        """Whether tokens know their place in the text, as with transformers' fast tokenizers."""
        return self._encoding_of is not None

    @property
    def n_sequences(self) -> int | None:
        """How many texts make one sequence: always one; None without ``encodings``."""
        return 1 if self.is_fast else None

    @property
    def encodings(self) -> list[Encoding] | None:
        """The encoding of each text; None if this was not made by a tokenizer."""
        return list(map(self._encoding, range(self._n_texts))) if self.is_fast else None

    def tokens(self, batch_index: int = 0) -> list[str]:
        """Return the tokens of a text in the vocabulary's spelling."""
        return self._encoding(batch_index).tokens

    def char_to_token(self, batch_or_char_index: int, char_index: int | None = None) -> int | None:
        """Return the index of the token with a character: (character), or (text, character)."""
        given = batch_or_char_index, char_index
        text, char = (0, given[0]) if given[1] is None else (given[0], given[1])
        return self._encoding(text).char_to_token(char)

    def token_to_chars(
        self, batch_or_token_index: int, token_index: int | None = None
    ) -> Offset | None:
        """Return the characters of a token, (first, last + 1); None if it is not from the text."""
        given = batch_or_token_index, token_index
        text, token = (0, given[0]) if given[1] is None else (given[0], given[1])
        encoding = self._encoding(text)
        return None if encoding.special_tokens_mask[token] else encoding.offsets[token]

    def word_ids(self, batch_index: int = 0) -> NoReturn:
        """Raise TypeError: a GGUF vocabulary does not say where words begin."""
        raise TypeError(
            "localgen has no word_ids: llama.cpp does not tell the words that it splits a text "
            "into; use char_to_token() with the places of your words in the text"
        )

    def _encoding(self, index: int) -> Encoding:
        if self._encoding_of is None:
            raise ValueError(
                "this BatchEncoding was not made by a tokenizer's call, or was copied by pickle: "
                "it has columns such as ['input_ids'] only"
            )
        if not -self._n_texts <= index < self._n_texts:
            raise IndexError(f"there is no text {index}: the batch has {self._n_texts}")
        return self._encoding_of(index % self._n_texts)


def check_tensor_type(return_tensors: str | None) -> None:
    """Raise ValueError unless ``return_tensors`` is one that localgen makes."""
    if return_tensors not in (None, "np", "pt"):
        raise ValueError(f"return_tensors must be None, 'np' or 'pt', got {return_tensors!r}")


def as_columns(encoded: Any) -> tuple[Columns, bool]:
    """Return the columns of encoded texts as lists, and whether it is a single text.

    encoded: a BatchEncoding or dict, or a list of them with one text each. Raises TypeError or
    ValueError for anything without input_ids.
    """
    if isinstance(encoded, (list, tuple)) and encoded and isinstance(encoded[0], Mapping):
        encoded = {name: [each[name] for each in encoded] for name in encoded[0]}
    if not isinstance(encoded, Mapping) or "input_ids" not in encoded:
        raise TypeError(
            f"pad() takes what the tokenizer returned, or a list of that, with input_ids; got "
            f"{encoded!r:.80}"
        )
    rows = {name: [_as_list(row) for row in _as_list(value)] for name, value in encoded.items()}
    if not rows["input_ids"]:
        raise ValueError("there is nothing to pad: input_ids is empty")
    if isinstance(rows["input_ids"][0], list):
        return rows, False
    return {name: [row] for name, row in rows.items()}, True


def _as_list(value: Any) -> Any:
    value = to_numpy(value)
    return value.tolist() if isinstance(value, np.ndarray) else value


def pad_columns(
    columns: Columns, padding: PaddingOptions, pad_token_id: int | None, side: str
) -> Columns:
    """Return columns whose rows have one length: padded, or equal already.

    Raises ValueError if they are neither, and if padding needs a pad token and there is none.
    """
    ids = columns["input_ids"]
    length = padded_length([len(row) for row in ids], padding)
    if all(len(row) == length for row in ids):
        return columns
    if pad_token_id is None:
        raise ValueError(
            "padding needs a pad token, and there is none; set tokenizer.pad_token or pad_token_id"
        )
    fill = {"input_ids": pad_token_id, **_FILL}
    for name in columns:
        if name not in fill:
            raise ValueError(f"{name!r} cannot be padded, only {', '.join(fill)}")
    return {
        name: [pad(row, fill[name], length, side) for row in rows] for name, rows in columns.items()
    }


def as_data(
    columns: Columns, return_tensors: str | None, *, as_arrays: bool, single: bool
) -> dict[str, Any]:
    """Return columns as arrays, tensors or lists; a single text has flat lists."""
    if as_arrays or return_tensors is not None:
        kind = return_tensors or "np"
        return {name: _tensor(name, rows, kind) for name, rows in columns.items()}
    return {name: rows[0] if single else rows for name, rows in columns.items()}


def _tensor(name: str, values: Any, kind: str) -> Any:
    try:
        array = np.asarray(to_numpy(values), np.int64)
    except ValueError:
        raise ValueError(
            f"{name} has rows of different lengths, which is not a rectangular array; encode with "
            f"padding=True"
        ) from None
    if isinstance(values, list) and values and not array.size:
        array = array.reshape(len(values), -1)
    if kind == "np":
        return array
    try:
        importlib.import_module("torch")
    except ImportError:
        raise ImportError("return_tensors='pt' needs torch: pip install torch") from None
    return to_torch(array)
