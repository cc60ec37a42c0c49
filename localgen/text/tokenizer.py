"""Text ↔ token ids with the names of a transformers tokenizer; it knows no C and no model."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections import UserDict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from localgen._util.arrays import check_ids, is_torch, to_numpy, to_torch
from localgen._util.checks import check_int
from localgen._util.warn import warn
from localgen.engine.backend import TokenIds
from localgen.text.padding import PaddingOptions, check_side, cut, padding_options
from localgen.text.token_texts import TokenTexts
from localgen.text.tool_schema import Tool, as_schemas

if TYPE_CHECKING:
    from localgen.text.chat_encoder import ChatEncoder, ChatTemplates
    from localgen.text.chat_template import Message


# Arguments of transformers' apply_chat_template that are not there: no template reads them.
_NOT_HERE = {
    "truncation": "a conversation is never cut: leave messages out, or cut the ids that you get",
    "max_length": "a conversation is never cut: leave messages out, or cut the ids that you get",
    "return_assistant_tokens_mask": "transformers has it, localgen does not",
    "tokenizer_kwargs": "give padding and return_tensors by themselves",
}


# A character that is in no vocabulary: no token reaches across it.
_APART = "\ufdd0"


class Vocab(Protocol):
    """What a tokenizer needs of a vocabulary; see ``llama.vocab.LlamaVocab``."""

    @property
    def n_vocab(self) -> int: ...

    @property
    def bos_token_id(self) -> int | None: ...

    @property
    def eos_token_id(self) -> int | None: ...

    @property
    def pad_token_id(self) -> int | None: ...

    @property
    def adds_space_prefix(self) -> bool: ...

    @property
    def adds_bos(self) -> bool: ...

    @property
    def chat_templates(self) -> Mapping[str, str]: ...

    @property
    def eog_ids(self) -> tuple[int, ...]: ...

    def is_special(self, token_id: int) -> bool: ...

    def tokenize(self, text: bytes, *, add_special: bool, parse_special: bool) -> TokenIds: ...

    def token_bytes(self, token_id: int) -> bytes: ...


class BatchEncoding(UserDict[str, Any]):
    """``input_ids`` and ``attention_mask``, as items and as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["data"][name]
        except KeyError:
            raise AttributeError(name) from None

    def to(self, device: Any) -> BatchEncoding:
        """Torch tensors moved to ``device``; NumPy arrays and lists stay as they are."""
        moved = {
            name: value.to(device) if is_torch(value) else value
            for name, value in self.data.items()
        }
        return BatchEncoding(moved)


class Tokenizer:
    """Text ↔ token ids, both ways without loss where the vocabulary has a token for every byte.

    A vocabulary may lack some (SmolLM2's has no token for a few control characters): llama.cpp,
    like transformers, leaves such characters out.

    ``padding_side`` is "left", so that new tokens follow each prompt, and ``truncation_side`` is
    "right"; both may be set.
    """

    def __init__(self, vocab: Vocab) -> None:
        self._vocab = vocab
        self._padding_side = "left"
        self._truncation_side = "right"
        self._pad_token_id = (
            vocab.eos_token_id if vocab.pad_token_id is None else vocab.pad_token_id
        )
        self._texts = TokenTexts(vocab.n_vocab, self.token_bytes, vocab.is_special)
        self._bytes: dict[int, bytes] = {}
        self._text_bytes: dict[int, bytes] = {}

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, eos_token_id={self.eos_token_id})"

    def __len__(self) -> int:
        return self._vocab.n_vocab

    @property
    def vocab_size(self) -> int:
        return self._vocab.n_vocab

    @property
    def bos_token_id(self) -> int | None:
        return self._vocab.bos_token_id

    @property
    def eos_token_id(self) -> int | None:
        return self._vocab.eos_token_id

    @property
    def eos_token_ids(self) -> list[int]:
        """Every token that ends generation by default: EOS, end of turn and the like."""
        return list(self._vocab.eog_ids)

    @property
    def pad_token_id(self) -> int | None:
        """What texts are padded with: the vocabulary's pad token, or its EOS token where it has
        none, or what was set. ``generate()`` goes by the vocabulary, and its own option."""
        return self._pad_token_id

    @pad_token_id.setter
    def pad_token_id(self, token_id: int) -> None:
        self._pad_token_id = check_int("pad_token_id", token_id, 0, self.vocab_size - 1)

    @property
    def bos_token(self) -> str | None:
        """The text of BOS, if there is one; so it is for the next two."""
        return self._text_if_any(self.bos_token_id)

    @property
    def eos_token(self) -> str | None:
        return self._text_if_any(self.eos_token_id)

    @property
    def pad_token(self) -> str | None:
        return self._text_if_any(self.pad_token_id)

    @pad_token.setter
    def pad_token(self, text: str) -> None:
        token_id = self._texts.id_of(text)
        if token_id is None:
            raise ValueError(
                f"pad_token must be the text of a token, got {text!r}: a file's vocabulary cannot "
                f"grow; use tokenizer.eos_token, whose places the attention mask tells apart"
            )
        self.pad_token_id = token_id

    def _text_if_any(self, token_id: int | None) -> str | None:
        return None if token_id is None else self._texts.text(token_id)

    @property
    def padding_side(self) -> str:
        return self._padding_side

    @padding_side.setter
    def padding_side(self, side: str) -> None:
        self._padding_side = check_side("padding_side", side)

    @property
    def truncation_side(self) -> str:
        return self._truncation_side

    @truncation_side.setter
    def truncation_side(self, side: str) -> None:
        self._truncation_side = check_side("truncation_side", side)

    @property
    def chat_template(self) -> str | None:
        """The source of the model's chat template, if it has one."""
        return self._vocab.chat_templates.get("default")

    @property
    def all_special_ids(self) -> list[int]:
        return [i for i in range(self.vocab_size) if self._vocab.is_special(i)]

    def __call__(
        self,
        text: str | Sequence[str],
        padding: bool | str = False,
        add_special_tokens: bool = True,
        return_tensors: str | None = None,
        *,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        split_special_tokens: bool = False,
    ) -> BatchEncoding:
        """Encode one text or several.

        padding: True or "longest" to pad on ``padding_side`` to the longest, "max_length" to
        ``max_length`` tokens, and return int64 NumPy arrays (batch, length); False or "do_not_pad"
        not to. truncation: True to cut texts on ``truncation_side`` to ``max_length`` tokens,
        special tokens that are added included and kept.
        return_tensors: "np" or "pt" for arrays or torch tensors; None for lists (arrays if
        padded). split_special_tokens: see ``encode``.
        """
        if not isinstance(text, Iterable) or isinstance(text, bytes | Mapping):
            raise TypeError(f"text must be a str or a list of them, got {text!r:.80}")
        single = isinstance(text, str)
        texts = [text] if isinstance(text, str) else list(text)
        if not texts:
            raise ValueError("the batch is empty: pass at least one text")
        widths = padding_options(padding, truncation, max_length)
        encode = partial(self.encode, split_special_tokens=split_special_tokens)
        rows = []
        for one in texts:
            row = encode(one, add_special_tokens=add_special_tokens)
            if widths.cut_to is not None and len(row) > widths.cut_to:
                plain = encode(one, add_special_tokens=False)
                row = cut(row, plain, widths.cut_to, self._truncation_side)
            rows.append(row)
        return self._encoding(rows, widths, return_tensors, single=single)

    def _encoding(
        self,
        rows: list[list[int]],
        widths: PaddingOptions,
        return_tensors: str | None,
        *,
        single: bool,
    ) -> BatchEncoding:
        if return_tensors not in (None, "np", "pt"):
            raise ValueError(f"return_tensors must be None, 'np' or 'pt', got {return_tensors!r}")
        masks = [[1] * len(row) for row in rows]
        if not widths.pads and return_tensors is None:
            return BatchEncoding(
                input_ids=rows[0] if single else rows, attention_mask=masks[0] if single else masks
            )
        return self._arrays(rows, masks, widths, return_tensors)

    def _arrays(
        self,
        rows: list[list[int]],
        masks: list[list[int]],
        widths: PaddingOptions,
        tensors: str | None,
    ) -> BatchEncoding:
        lengths = sorted({len(row) for row in rows})
        width = lengths[-1] if widths.pad_to is None else widths.pad_to
        if not widths.pads and len(lengths) > 1:
            raise ValueError(
                f"the texts have {lengths[0]} to {lengths[-1]} tokens, so they make no "
                f"rectangular array; use padding=True"
            )
        if lengths[-1] > width:
            raise ValueError(
                f"a text has {lengths[-1]} tokens and max_length is {width}; use truncation=True "
                f"to cut it, or a larger max_length"
            )
        if lengths[0] < width:
            pad = self.pad_token_id
            if pad is None:
                raise ValueError("padding needs a pad token, and this vocabulary has none")
            rows = [self._filled(row, pad, width) for row in rows]
            masks = [self._filled(mask, 0, width) for mask in masks]
        arrays = {
            "input_ids": np.array(rows, np.int64).reshape(len(rows), -1),
            "attention_mask": np.array(masks, np.int64).reshape(len(rows), -1),
        }
        if tensors == "pt":
            _import_torch()
            return BatchEncoding({name: to_torch(array) for name, array in arrays.items()})
        return BatchEncoding(arrays)

    def _filled(self, row: list[int], value: int, width: int) -> list[int]:
        more = [value] * (width - len(row))
        return [*more, *row] if self._padding_side == "left" else [*row, *more]

    def encode(
        self, text: str, *, add_special_tokens: bool = True, split_special_tokens: bool = False
    ) -> list[int]:
        """Token ids of ``text``.

        add_special_tokens: add BOS and EOS where the model wants them. split_special_tokens: take
        the spelling of a special token in ``text`` literally, as text; by default it becomes that
        token, as in transformers. Raises ValueError for lone surrogates.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be a str, got {type(text).__name__}")
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the text holds a lone surrogate, {text[error.start]!r} at index {error.start}, "
                f"which is no Unicode text; decode it with errors='replace' first"
            ) from None
        if not data and not add_special_tokens:
            return []
        ids: list[int] = self._vocab.tokenize(
            data, add_special=add_special_tokens, parse_special=not split_special_tokens
        ).tolist()
        return ids

    def encode_after(
        self, token_id: int, text: str, *, split_special_tokens: bool = False
    ) -> list[int]:
        """Return the token ids of a text that follows ``token_id``; see ``encode``.

        No special tokens are added, and a space in front only after a special token.
        """
        encode = partial(
            self.encode, add_special_tokens=False, split_special_tokens=split_special_tokens
        )
        # Such a vocabulary puts a space where a text begins: at the start and after special tokens.
        if not self._vocab.adds_space_prefix or self._vocab.is_special(token_id):
            return encode(text)
        return encode(_APART + text)[len(encode(_APART)) :]

    def apply_chat_template(
        self,
        conversation: Sequence[Message] | Sequence[Sequence[Message]],
        tools: Sequence[Tool] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = True,
        padding: bool | str = False,
        return_tensors: str | None = None,
        return_dict: bool = True,
        *,
        split_special_tokens: bool = True,
        **variables: Any,
    ) -> Any:
        """Render a conversation, or several, by the model's chat template, and encode the text.

        tools: functions with type hints and a docstring in Google's style, or JSON schemas.
        chat_template: a template, or the name of one of the model's. add_generation_prompt: end
        with the beginning of an answer. continue_final_message: end inside the last message.
        padding: see ``__call__``. split_special_tokens: take control tokens that messages spell as
        text. variables: what else this template reads, ``enable_thinking`` for example.
        Returns a BatchEncoding as ``__call__`` does; without ``return_dict`` its input_ids, without
        ``tokenize`` the text. Raises TemplateError, TypeError, ValueError.
        """
        _refuse_not_here(variables)
        if padding == "max_length":
            raise ValueError(
                "apply_chat_template pads to the longest: use padding=True, or pad the ids that "
                "you get"
            )
        widths = padding_options(padding)
        several = bool(conversation) and not isinstance(conversation[0], Mapping)
        chats: Any = conversation if several else [conversation]
        given: dict[str, Any] = {
            "tools": as_schemas(tools),
            "documents": documents,
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": continue_final_message,
            "special_tokens": self._special_token_texts,
            "variables": variables,
        }
        template = self._chat_templates.choose(chat_template, has_tools=bool(tools))
        set_names = [name for name in ("tools", "documents") if given[name]] + [*variables]
        if unread := [name for name in set_names if not template.reads(name)]:
            _refuse_misspelt(unread)
            warn(f"the chat template does not read {', '.join(unread)}: the model sees none of it")
        if not tokenize:
            texts = [template.render(chat, **given) for chat in chats]
            return texts if several else texts[0]
        rows = [
            self._with_bos(
                self._chat_encoder.encode(
                    template, chat, split_special_tokens=split_special_tokens, **given
                )
            )
            for chat in chats
        ]
        encoding = self._encoding(rows, widths, return_tensors, single=not several)
        return encoding if return_dict else encoding["input_ids"]

    # jinja2 is imported for chats only, and importing localgen stays light.

    @cached_property
    def _chat_templates(self) -> ChatTemplates:
        from localgen.text.chat_encoder import ChatTemplates  # noqa: PLC0415

        return ChatTemplates(self._vocab.chat_templates)

    @cached_property
    def _special_token_texts(self) -> dict[str, str]:
        """What a template reads as ``bos_token`` and the like."""
        ids = {
            "bos_token": self._vocab.bos_token_id,
            "eos_token": self._vocab.eos_token_id,
            "pad_token": self._vocab.pad_token_id,
        }
        return {name: self._spelled(i) for name, i in ids.items() if i is not None}

    @cached_property
    def _chat_encoder(self) -> ChatEncoder:
        from localgen.text.chat_encoder import ChatEncoder  # noqa: PLC0415

        return ChatEncoder(
            {self._spelled(i): i for i in self.all_special_ids},
            lambda text: self.encode(text, add_special_tokens=False, split_special_tokens=True),
            lambda text: self.encode(text, add_special_tokens=False),
        )

    def _spelled(self, token_id: int) -> str:
        return self.token_bytes(token_id).decode("utf-8", errors="replace")

    def _with_bos(self, ids: list[int]) -> list[int]:
        """Some templates begin with BOS, others leave it to the tokenizer."""
        bos = self.bos_token_id
        return ids if bos is None or not self._vocab.adds_bos or ids[:1] == [bos] else [bos, *ids]

    def decode(self, token_ids: Any, skip_special_tokens: bool = False) -> str:
        """Text of one row of ids (list, array or tensor) or of a single id.

        Bytes that are not UTF-8 become U+FFFD. For vocabularies that put a space before the text,
        the first space is taken away again.
        """
        ids = self._one_row(token_ids, "decode")
        is_special = self._vocab.is_special
        kept = [i for i in ids if not (skip_special_tokens and is_special(i))]
        data = b"".join(map(self.token_bytes, kept))
        has_prefix = self._vocab.adds_space_prefix and data.startswith(b" ")
        if has_prefix and not is_special(kept[0]):
            data = data[1:]
        return data.decode("utf-8", errors="replace")

    def _one_row(self, token_ids: Any, what: str) -> list[int]:
        """One row of ids, or a single one, checked."""
        ids = np.atleast_1d(np.asarray(to_numpy(token_ids)))
        if ids.ndim != 1:
            raise ValueError(f"{what} takes one row of ids, got shape {ids.shape}")
        if ids.size and ids.dtype.kind not in "iu":
            raise ValueError(f"token ids must be integers, got {ids.dtype}")
        check_ids(ids, self.vocab_size, what)
        checked: list[int] = ids.tolist()
        return checked

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> str | list[str]:
        """The text that an id stands for, or those of one row of ids.

        Where transformers gives a vocabulary's own spelling ("Ġthe", "▁the"), this is the text
        itself, " the"; bytes that are no whole character are written as \\xNN.
        """
        row = self._one_row(ids, "convert_ids_to_tokens")
        if np.ndim(to_numpy(ids)) == 0:
            return self._texts.text(row[0])
        is_special = self._vocab.is_special
        kept = [i for i in row if not (skip_special_tokens and is_special(i))]
        return [self._texts.text(i) for i in kept]

    def convert_tokens_to_ids(self, tokens: str | Iterable[str]) -> int | list[int | None] | None:
        """The id of a token's text, or those of several; None where no token has that text.

        Texts are as from ``convert_ids_to_tokens``. Raises ValueError where several tokens have
        the same one, as letters do in a vocabulary that has tokens for single bytes too.
        """
        if isinstance(tokens, str):
            return self._texts.id_of(tokens)
        return [self._texts.id_of(token) for token in tokens]

    def tokenize(
        self, text: str, *, add_special_tokens: bool = False, split_special_tokens: bool = False
    ) -> list[str]:
        """The texts of the tokens of ``text``; see ``encode`` and ``convert_ids_to_tokens``."""
        ids = self.encode(
            text, add_special_tokens=add_special_tokens, split_special_tokens=split_special_tokens
        )
        return [self._texts.text(i) for i in ids]

    def batch_decode(
        self, sequences: Iterable[Any], skip_special_tokens: bool = False
    ) -> list[str]:
        """Text of each row; see ``decode``."""
        return [self.decode(row, skip_special_tokens=skip_special_tokens) for row in sequences]

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token; a special token is spelled out."""
        data = self._bytes.get(token_id)
        if data is None:
            data = self._bytes[token_id] = self._vocab.token_bytes(token_id)
        return data

    def text_bytes(self, token_id: int) -> bytes:
        """The bytes of one token, none for a special token."""
        data = self._text_bytes.get(token_id)
        if data is None:
            special = self._vocab.is_special(token_id)
            data = self._text_bytes[token_id] = b"" if special else self.token_bytes(token_id)
        return data


def _refuse_not_here(variables: dict[str, Any]) -> None:
    """TypeError for what a template cannot do; what asks for nothing is taken away."""
    for name, advice in _NOT_HERE.items():
        value = variables.pop(name, None)
        if value is not None and value is not False:
            raise TypeError(f"apply_chat_template has no {name}={value!r}: {advice}")


def _refuse_misspelt(unread: Sequence[str]) -> None:
    """TypeError for a variable that no template reads, and whose name is nearly an argument's."""
    known = inspect.signature(Tokenizer.apply_chat_template).parameters
    for name in set(unread) - set(known):
        if near := difflib.get_close_matches(name, known, n=1, cutoff=0.8):
            raise TypeError(
                f"the chat template does not read {name!r}; did you mean the argument {near[0]!r}?"
            )


def _import_torch() -> None:
    try:
        importlib.import_module("torch")
    except ImportError:
        raise ImportError("return_tensors='pt' needs torch: pip install torch") from None
