"""Check what callers pass as prompts, and turn it into token ids without padding."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from localgen._util.arrays import check_ids, is_torch, to_numpy
from localgen._util.warn import warn
from localgen.engine.backend import TokenIds
from localgen.option_names import normalize_options
from localgen.text.replies.start import ReplyStart
from localgen.text.tokenizer import Tokenizer

Matrix = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_NOT_ENCODED = (
    "hold integers, got text; encode it with model.tokenizer(text, return_tensors='np'), or pass "
    "it to complete()"
)
_SEVERAL_TEXTS = (
    "be one text or its token ids, got a list of texts; complete() takes several, and score() one "
    "at a time: [model.score(text) for text in texts]"
)
_PADDED = "be padded to one width, with attention_mask, as tokenizer(texts, padding=True) does"
_ONE_ROW = "be one list of token ids, such as input_ids[0] of a batch of one"


@dataclass(frozen=True, slots=True)
class FixedStart:
    """A prompt of which token healing leaves the first tokens alone: those that it has in common
    with ``start``."""

    prompt: str | Sequence[int]
    start: Sequence[int]


@dataclass(frozen=True, slots=True)
class ChatPrompt(FixedStart):
    """A conversation as token ids.

    reply: how the reply to it is taken apart, None if not. grammar: what the reply must be, None
    if anything.
    """

    reply: ReplyStart | None = None
    grammar: str | None = None

    @property
    def token_ids(self) -> list[int]:
        """The token ids of the conversation."""
        return list(map(int, self.prompt))


Prompt = str | Sequence[int] | FixedStart


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The checked prompts of a call.

    token_ids: int32 (n,) each, without padding. lengths: what ``max_length`` counts of each,
    padding included. matrix: int64 (batch, length) as ``generate()`` was given it, mask: bool
    (batch, length), where the tokens are in it; both None for texts. is_torch: whether it was a
    torch tensor. text_seconds: how long tokenizing took. negative: the token ids that the guide of
    each prompt begins with, int32 (n,); None where there are none. n_fixed: how many tokens of
    each, from the first one on, token healing leaves alone; None for 0. replies: how the reply to
    each is taken apart; None where it is not.
    """

    token_ids: list[TokenIds]
    lengths: list[int]
    matrix: Matrix | None = None
    mask: Mask | None = None
    is_torch: bool = False
    text_seconds: float = 0.0
    negative: list[TokenIds | None] | None = None
    n_fixed: list[int] | None = None
    replies: list[ReplyStart | None] | None = None


def one_of(input_ids: Any, inputs: Any, options: Mapping[str, Any]) -> Any:
    """Return the prompts, which have two names in transformers; TypeError unless one is given.

    options: those of the call, of which one may be meant as the prompts, such as inputs_embeds.
    """
    if input_ids is None and inputs is None:
        normalize_options(options, loads=False)
    if (input_ids is None) == (inputs is None):
        what = "neither of them" if inputs is None else "both"
        raise TypeError(f"generate() takes input_ids, or inputs, which means the same; got {what}")
    return inputs if input_ids is None else input_ids


def prompts_from_ids(
    input_ids: Any,
    attention_mask: Any,
    n_vocab: int,
    pad_token_id: int | None,
    eos_ids: frozenset[int],
) -> Prompts:
    """Check ``input_ids`` and ``attention_mask``, and take the padding out.

    Accepts one prompt or a batch: lists, NumPy arrays or torch tensors. A token is left out where
    its mask is 0. Without a mask, pad tokens count as padding only if the pad token is none of
    ``eos_ids``, as in transformers: a token that ends a turn may well be part of a prompt.
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
        if _looks_padded(matrix, pad_token_id):
            warn(
                f"input_ids looks padded with token {pad_token_id}, which also ends sequences, so "
                f"it is read as part of the prompts; pass attention_mask: generate(**inputs)"
            )
    _check_rows(mask)
    rows = [row[kept] for row, kept in zip(matrix, mask, strict=True)]
    for index, row in enumerate(rows):
        check_ids(row, n_vocab, f"input_ids, row {index}")
    return Prompts(
        token_ids=[row.astype(np.int32) for row in rows],
        lengths=[matrix.shape[1]] * len(rows),
        matrix=matrix,
        mask=mask,
        is_torch=is_torch(input_ids),
    )


def as_prompts(prompts: str | Sequence[Prompt]) -> list[Prompt]:
    """Return one prompt or several as a list. Raises TypeError, or ValueError if it is empty."""
    if isinstance(prompts, str):
        return [prompts]
    if not isinstance(prompts, Iterable) or isinstance(prompts, bytes | bytearray | Mapping):
        advice = "; decode them to a str first" if isinstance(prompts, bytes | bytearray) else ""
        raise TypeError(
            f"prompts must be a text or a list whose items are texts or lists of token ids, got "
            f"{prompts!r:.80}{advice}"
        )
    prompts = list(prompts)
    if not prompts:
        raise ValueError("the batch is empty: pass at least one prompt")
    return prompts


def prompts_from_texts(
    prompts: Sequence[Prompt], tokenizer: Tokenizer, *, split_special_tokens: bool
) -> Prompts:
    """Encode prompts; one may be a list of token ids already.

    Raises ValueError for an empty prompt and for ids outside the vocabulary.
    """
    started = time.perf_counter()
    names = [f"prompt {i}" for i in range(len(prompts))] if len(prompts) > 1 else ["the prompt"]
    rows = [
        encode(prompt, tokenizer, name, split_special_tokens=split_special_tokens)
        for prompt, name in zip(prompts, names, strict=True)
    ]
    return Prompts(
        token_ids=rows,
        lengths=[len(row) for row in rows],
        text_seconds=time.perf_counter() - started,
        n_fixed=[_n_fixed(prompt, row) for prompt, row in zip(prompts, rows, strict=True)],
        replies=[each.reply if isinstance(each, ChatPrompt) else None for each in prompts],
    )


def encode(
    prompt: Prompt, tokenizer: Tokenizer, what: str, *, split_special_tokens: bool
) -> TokenIds:
    """Return the token ids of one prompt, int32 (n,); ``what`` names it in errors."""
    if isinstance(prompt, FixedStart):
        prompt = prompt.prompt
    if not isinstance(prompt, str):
        return id_row(prompt, tokenizer.vocab_size, what)
    ids = tokenizer.encode(prompt, split_special_tokens=split_special_tokens)
    if not ids:
        raise ValueError(f"{what} is empty: it has no tokens, and this model adds none of its own")
    return np.array(ids, np.int32)


def _n_fixed(prompt: Prompt, row: TokenIds) -> int:
    if not isinstance(prompt, FixedStart):
        return 0
    pairs = zip(prompt.start, row.tolist(), strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(prompt.start), len(row)))


def negative_rows(
    negative_prompt_ids: Any,
    negative_prompt_attention_mask: Any,
    n_vocab: int,
    pad_token_id: int | None,
    counts: Sequence[int],
) -> list[TokenIds | None]:
    """Return what the guide of each prompt begins with, from the arguments of ``generate()``: one
    row for all prompts, or one each. Without a mask every token counts, as in transformers.

    counts: the sequences of each prompt; there may be a row for each of them, as in transformers.
    """
    ids, mask_name = "negative_prompt_ids", "negative_prompt_attention_mask"
    if negative_prompt_ids is None:
        raise ValueError(f"{mask_name} was given without {ids}, to which it belongs")
    matrix = _matrix(negative_prompt_ids, ids)
    mask = np.ones(matrix.shape, np.bool_)
    if negative_prompt_attention_mask is not None:
        mask = _mask(negative_prompt_attention_mask, matrix, mask_name, ids)
    elif _looks_padded(matrix, pad_token_id):
        warn(
            f"{ids} looks padded with token {pad_token_id}, and without {mask_name} it is read as "
            f"part of the prompts"
        )
    _check_rows(mask, mask_name)
    rows = [row[kept].astype(np.int32) for row, kept in zip(matrix, mask, strict=True)]
    for row in rows:
        check_ids(row, n_vocab, ids)
    if len(rows) == 1:
        return rows * len(counts)
    if len(rows) == len(counts):
        return [*rows]
    ends = np.cumsum(counts)
    groups = [rows[end - count : end] for count, end in zip(counts, ends, strict=True)]
    if len(rows) != ends[-1] or any(not np.array_equal(g[0], row) for g in groups for row in g):
        raise ValueError(
            f"{ids} has {len(rows)} rows for {len(counts)} prompts: give one for all, or one each"
        )
    return [group[0] for group in groups]


def id_row(ids: Any, n_vocab: int, what: str) -> TokenIds:
    """Return one prompt given as token ids as int32 (n,); ValueError if it is empty or not ids."""
    if _is_message(ids) or (isinstance(ids, Sequence) and len(ids) and _is_message(ids[0])):
        raise ValueError(
            f"{what} must be a text or a list of token ids, got messages; "
            f"model.chat_prompt(messages) makes a prompt of them"
        )
    if isinstance(ids, Mapping):
        raise ValueError(
            f"{what} must be a text or a list of token ids, got {ids!r:.80}; of what a tokenizer "
            f"returned for one text, pass its input_ids"
        )
    array = _integers(to_numpy(ids), what, _SEVERAL_TEXTS, _ONE_ROW)
    if not array.ndim:
        raise ValueError(
            f"{what} must be a text or a non-empty list of token ids, got the number {array}; one "
            f"prompt of token ids is a list in a list, as [[1, 2, 3]]"
        )
    if array.ndim == 2 and array.size:
        raise ValueError(f"{what} must {_ONE_ROW}, got shape {array.shape}")
    if array.ndim != 1 or not array.size:
        raise ValueError(
            f"{what} must be a text or a non-empty list of token ids, got shape {array.shape}"
        )
    check_ids(array, n_vocab, what)
    return array.astype(np.int32)


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and "role" in value


def _integers(value: Any, what: str, if_text: str, if_ragged: str = _PADDED) -> npt.NDArray[Any]:
    """Return ``value`` as an array of integers; ``if_text`` and ``if_ragged`` say what it must do
    if it is text, or rows of different lengths."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{what} must {if_ragged}, got rows that differ in length") from None
    if array.size and array.dtype.kind not in "iu":
        wants = f"hold integers, got {array.dtype}"
        texts = {"U": if_text, "S": "hold integers, got bytes; decode them to a str first"}
        raise ValueError(f"{what} must {texts.get(array.dtype.kind, wants)}")
    return array


def _matrix(input_ids: Any, name: str = "input_ids") -> Matrix:
    if isinstance(input_ids, Mapping):
        raise TypeError(f"{name} is what a tokenizer returned: pass **inputs, or its input_ids")
    array = _integers(to_numpy(input_ids), name, _NOT_ENCODED)
    if array.ndim == 1 and array.size:
        array = array[None, :]
    if array.ndim != 2 or not array.shape[0]:
        raise ValueError(
            f"{name} must be a prompt (length,) or a batch (batch, length) with at least one "
            f"row, got shape {array.shape}"
        )
    if not array.shape[1]:
        raise ValueError(f"the prompt is empty: {name} has shape {array.shape}")
    return array.astype(np.int64)


def _mask(
    attention_mask: Any, matrix: Matrix, name: str = "attention_mask", ids: str = "input_ids"
) -> Mask:
    try:
        array = np.asarray(to_numpy(attention_mask))
    except ValueError:
        raise ValueError(f"{name}: rows differ in length") from None
    if array.ndim == 1:
        array = array[None, :]
    if array.shape != matrix.shape:
        raise ValueError(f"{name} must have the shape of {ids}, {matrix.shape}, got {array.shape}")
    if not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} must hold only 0 and 1")
    return array.astype(np.bool_)


def _check_rows(mask: Mask, name: str = "attention_mask") -> None:
    """Raise ValueError unless each row has a real token."""
    for index in np.flatnonzero(~mask.any(axis=1)):
        raise ValueError(f"{name}, row {index}: the prompt is empty, every position is 0")


def _looks_padded(matrix: Matrix, pad_token_id: int | None) -> bool:
    """Return whether some rows, but not all, begin or end with the pad token."""
    edges = (matrix[:, 0], matrix[:, -1])
    return pad_token_id is not None and any(
        0 < np.count_nonzero(edge == pad_token_id) < len(matrix) for edge in edges
    )


def check_token_types(token_type_ids: Any) -> None:
    """Raise ValueError for a second segment, which a text-generation model does not know."""
    if token_type_ids is not None and np.any(to_numpy(token_type_ids)):
        raise ValueError(
            "token_type_ids must be all 0, or left out: this model has no second segment"
        )


def pad_right(rows: list[TokenIds], pad_token_id: int) -> Matrix:
    """Return rows of different lengths as one int64 matrix, padded on the right."""
    matrix = np.full((len(rows), max(map(len, rows))), pad_token_id, np.int64)
    for target, row in zip(matrix, rows, strict=True):
        target[: len(row)] = row
    return matrix
