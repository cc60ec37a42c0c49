"""One text → its token ids and what else is known of each token; no padding, no batches."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from localgen._util.warn import warn
from localgen.text.offsets import Offset, token_offsets
from localgen.text.padding import truncate
from localgen.text.vocab import Vocab

# A character that is in no vocabulary: no token reaches across it.
_APART = "\ufdd0"
NOT_FROM_TEXT: Offset = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeOptions:
    """How texts are encoded; see ``Tokenizer.__call__``. cut_to: the most tokens of a text."""

    add_special_tokens: bool = True
    split_special_tokens: bool = False
    cut_to: int | None = None
    truncation_side: str = "right"


class Encoder:
    """Encodes texts with one vocabulary."""

    def __init__(self, vocab: Vocab) -> None:
        self._vocab = vocab

    def ids(
        self, text: str, *, add_special_tokens: bool = True, split_special_tokens: bool = False
    ) -> list[int]:
        """Return the token ids of a text; see ``Tokenizer.encode``."""
        if not isinstance(text, str):
            raise TypeError(f"text must be a str, got {type(text).__name__}")
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the text has a lone surrogate, {text[error.start]!r} at index {error.start}, "
                f"which is not valid Unicode; decode the text with errors='replace'"
            ) from None
        if not data and not add_special_tokens:
            return []
        ids: list[int] = self._vocab.tokenize(
            data, add_special=add_special_tokens, parse_special=not split_special_tokens
        ).tolist()
        bos = self._vocab.bos_token_id
        if add_special_tokens and self._vocab.adds_bos and ids[:2] == [bos, bos]:
            warn(
                f"the text begins with {self._vocab.token_text(ids[0])!r}, and the model adds one "
                f"more before each text: leave it out, or encode with add_special_tokens=False"
            )
        return ids

    def ids_after(self, token_id: int, text: str, *, split_special_tokens: bool) -> list[int]:
        """Return the token ids of a text after ``token_id``; see ``Tokenizer.encode_after``."""
        encode = partial(
            self.ids, add_special_tokens=False, split_special_tokens=split_special_tokens
        )
        # Such a vocabulary puts a space where a text begins: at the start and after special tokens.
        if not self._vocab.adds_space_prefix or self._vocab.is_special(token_id):
            return encode(text)
        return encode(_APART + text)[len(encode(_APART)) :]

    def columns(
        self, text: str, names: Collection[str], options: EncodeOptions
    ) -> dict[str, list[Any]]:
        """Return ``input_ids`` and the columns in ``names``, one value a token.

        names: of "attention_mask", "token_type_ids", "special_tokens_mask" and "offset_mapping".
        """
        given = options.add_special_tokens, options.split_special_tokens
        ids = self.ids(text, add_special_tokens=given[0], split_special_tokens=given[1])
        columns: dict[str, list[Any]] = {"input_ids": ids}
        cuts = options.cut_to is not None and len(ids) > options.cut_to
        n_before, n_after = 0, 0
        if given[0] and (cuts or "special_tokens_mask" in names or "offset_mapping" in names):
            n_before, n_after = self._n_added(ids, text, split_special_tokens=given[1])
        if "special_tokens_mask" in names:
            n_own = len(ids) - n_before - n_after
            columns["special_tokens_mask"] = [1] * n_before + [0] * n_own + [1] * n_after
        if "offset_mapping" in names:
            own = self._offsets(text, ids[n_before : len(ids) - n_after])
            columns["offset_mapping"] = [NOT_FROM_TEXT] * n_before + own + [NOT_FROM_TEXT] * n_after
        if options.cut_to is not None and cuts:
            side, length = options.truncation_side, options.cut_to
            columns = {
                name: truncate(values, n_before, n_after, length, side)
                for name, values in columns.items()
            }
        if "attention_mask" in names:
            columns["attention_mask"] = [1] * len(columns["input_ids"])
        if "token_type_ids" in names:
            columns["token_type_ids"] = [0] * len(columns["input_ids"])
        return columns

    def _n_added(self, ids: list[int], text: str, *, split_special_tokens: bool) -> tuple[int, int]:
        """Return how many special tokens were added before and after the text."""
        plain = self.ids(text, add_special_tokens=False, split_special_tokens=split_special_tokens)
        n_added = len(ids) - len(plain)
        starts = range(n_added + 1)
        n_before = next((n for n in starts if ids[n : n + len(plain)] == plain), n_added)
        return n_before, n_added - n_before

    def _offsets(self, text: str, ids: list[int]) -> list[Offset]:
        pieces = list(map(self._vocab.token_bytes, ids))
        if self._vocab.adds_space_prefix and pieces and not self._vocab.is_special(ids[0]):
            pieces[0] = pieces[0].removeprefix(b" ")
        return token_offsets(text, pieces)
