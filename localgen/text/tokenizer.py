"""Text ↔ token ids with the interface of a transformers tokenizer; it knows no C and no model."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from localgen._util.arrays import check_ids, to_numpy
from localgen._util.checks import check_int
from localgen.text.batch_encoding import BatchEncoding, batch_encoding
from localgen.text.chat_arguments import unknown_option, warn_unless_read, without_unsupported
from localgen.text.padding import PaddingOptions, check_side, padding_options, truncate
from localgen.text.token_texts import TokenTexts
from localgen.text.tool_schema import Tool, as_schemas
from localgen.text.vocab import Vocab

if TYPE_CHECKING:
    from localgen.text.chat_prompts import ChatPrompts
    from localgen.text.chat_template import Message

# A character that is in no vocabulary: no token reaches across it.
_APART = "\ufdd0"


class Tokenizer:
    """Text ↔ token ids, lossless in both directions if the vocabulary has a token for every byte.

    Some vocabularies lack a few (SmolLM2's has no token for some control characters): llama.cpp,
    like transformers, drops such characters.

    ``padding_side`` defaults to "left", so that new tokens follow each prompt, and
    ``truncation_side`` to "right"; both can be set.
    """

    def __init__(self, vocab: Vocab, *, owner: object = None) -> None:
        """owner: what ``vocab`` belongs to; it lives as long as this tokenizer does."""
        self._vocab = vocab
        self._owner = owner
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

    # --- special tokens and settings ---

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
        """All tokens that end generation by default: EOS, end of turn and the like."""
        return list(self._vocab.eog_ids)

    @property
    def pad_token_id(self) -> int | None:
        """The token that pads texts: the vocabulary's pad token, or else its EOS token.

        Setting it changes this tokenizer only; ``generate()`` reads the vocabulary and its own
        ``pad_token_id`` option.
        """
        return self._pad_token_id

    @pad_token_id.setter
    def pad_token_id(self, token_id: int) -> None:
        self._pad_token_id = check_int("pad_token_id", token_id, 0, self.vocab_size - 1)

    @property
    def bos_token(self) -> str | None:
        """The text of the BOS token, or None if there is none."""
        return self._text_or_none(self.bos_token_id)

    @property
    def eos_token(self) -> str | None:
        """The text of the EOS token, or None if there is none."""
        return self._text_or_none(self.eos_token_id)

    @property
    def pad_token(self) -> str | None:
        """The text of the token that pads texts, or None if there is none."""
        return self._text_or_none(self.pad_token_id)

    @pad_token.setter
    def pad_token(self, text: str | None) -> None:
        token_id = None if text is None else self._texts.id_of(text)
        if token_id is None:
            raise ValueError(
                f"pad_token must be the text of a token, got {text!r}: a GGUF vocabulary cannot "
                f"grow; use tokenizer.eos_token, which the attention mask tells from padding"
            )
        self.pad_token_id = token_id

    def _text_or_none(self, token_id: int | None) -> str | None:
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
        """The source of the model's default chat template, or None."""
        return self._vocab.chat_templates.get("default")

    @property
    def all_special_ids(self) -> list[int]:
        return [i for i in range(self.vocab_size) if self._vocab.is_special(i)]

    # --- text to token ids ---

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
        **unknown: Any,
    ) -> BatchEncoding:
        """Encode one text or several.

        padding: True or "longest" to pad to the longest text, "max_length" to pad to
        ``max_length`` tokens, on ``padding_side``; the result then holds int64 NumPy arrays
        (batch, length). False or "do_not_pad" for no padding.
        truncation: True to cut texts to ``max_length`` tokens on ``truncation_side``. Special
        tokens that are added count, and are kept.
        return_tensors: "np" or "pt" for arrays or torch tensors; None for lists (arrays if
        padded). split_special_tokens: see ``encode``. Raises TypeError for ``unknown`` arguments,
        with a suggestion.
        """
        if unknown:
            raise unknown_option(next(iter(unknown)), inspect.signature(self).parameters)
        if not isinstance(text, Iterable) or isinstance(text, bytes | Mapping):
            raise TypeError(f"text must be a str or a list of str, got {text!r:.80}")
        texts = [text] if isinstance(text, str) else list(text)
        if not texts:
            raise ValueError("the batch is empty: pass at least one text")
        options = padding_options(padding, truncation, max_length)
        encode = partial(self.encode, split_special_tokens=split_special_tokens)
        sequences = []
        for each in texts:
            ids = encode(each, add_special_tokens=add_special_tokens)
            if options.cut_to is not None and len(ids) > options.cut_to:
                plain = encode(each, add_special_tokens=False)
                ids = truncate(ids, plain, options.cut_to, self._truncation_side)
            sequences.append(ids)
        return self._encoding(sequences, options, return_tensors, single=isinstance(text, str))

    def _encoding(
        self,
        sequences: list[list[int]],
        padding: PaddingOptions,
        return_tensors: str | None,
        *,
        single: bool,
    ) -> BatchEncoding:
        return batch_encoding(
            sequences,
            padding,
            return_tensors,
            single=single,
            pad_token_id=self.pad_token_id,
            padding_side=self._padding_side,
        )

    def encode(
        self, text: str, *, add_special_tokens: bool = True, split_special_tokens: bool = False
    ) -> list[int]:
        """Return the token ids of ``text``.

        add_special_tokens: add BOS and EOS if the model expects them. split_special_tokens: encode
        the spelling of a special token in ``text`` as plain text; by default it becomes that
        token, as in transformers. Raises ValueError for lone surrogates.
        """
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

    def tokenize(
        self, text: str, *, add_special_tokens: bool = False, split_special_tokens: bool = False
    ) -> list[str]:
        """Return the tokens of ``text`` as texts; see ``encode`` and ``convert_ids_to_tokens``."""
        ids = self.encode(
            text, add_special_tokens=add_special_tokens, split_special_tokens=split_special_tokens
        )
        return [self._texts.text(i) for i in ids]

    # --- chats ---

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
        """Render one conversation or several with a chat template, and encode the text.

        tools: functions with type hints and a docstring in Google's style, or JSON schemas.
        chat_template: a jinja template, or the name of one of the model's; the model's default one
        if None. add_generation_prompt: append the start of an assistant message.
        continue_final_message: leave the last message open, to be continued. padding: see
        ``__call__``. split_special_tokens: encode control tokens that a message spells as plain
        text. variables: anything else that the template reads, such as ``enable_thinking``.

        Returns a BatchEncoding as ``__call__`` does; its input_ids if not ``return_dict``; the
        text if not ``tokenize``. Raises TemplateError, TypeError or ValueError.
        """
        variables = without_unsupported(variables)
        if padding == "max_length":
            raise ValueError(
                "apply_chat_template does not support padding='max_length': use padding=True, "
                "which pads to the longest, or pad the returned token ids"
            )
        options = padding_options(padding)
        several = bool(conversation) and not isinstance(conversation[0], Mapping)
        chats: Any = conversation if several else [conversation]
        given: dict[str, Any] = {
            "tools": as_schemas(tools),
            "documents": documents,
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": continue_final_message,
            "variables": variables,
        }
        template = self._chats.template(chat_template, has_tools=bool(tools))
        warn_unless_read(template, given, inspect.signature(self.apply_chat_template).parameters)
        if not tokenize:
            texts = [self._chats.render(template, chat, **given) for chat in chats]
            return texts if several else texts[0]
        sequences = [
            self._chats.encode(template, chat, split_special_tokens=split_special_tokens, **given)
            for chat in chats
        ]
        encoding = self._encoding(sequences, options, return_tensors, single=not several)
        return encoding if return_dict else encoding["input_ids"]

    @cached_property
    def _chats(self) -> ChatPrompts:
        # jinja2 is imported for chats only, which keeps the import of localgen fast.
        from localgen.text.chat_prompts import ChatPrompts  # noqa: PLC0415

        return ChatPrompts(self._vocab, self.encode, lambda: self.all_special_ids)

    # --- token ids to text ---

    def decode(self, token_ids: Any, skip_special_tokens: bool = False) -> str:
        """Return the text of a sequence of token ids (list, array or tensor), or of a single id.

        Bytes that are not UTF-8 become U+FFFD. If the vocabulary adds a space before a text, that
        space is removed.
        """
        ids = self._id_list(token_ids, "decode")
        is_special = self._vocab.is_special
        shown = [i for i in ids if not (skip_special_tokens and is_special(i))]
        data = b"".join(map(self.token_bytes, shown))
        has_prefix = self._vocab.adds_space_prefix and data.startswith(b" ")
        if has_prefix and not is_special(shown[0]):
            data = data[1:]
        return data.decode("utf-8", errors="replace")

    def batch_decode(
        self, sequences: Iterable[Any], skip_special_tokens: bool = False
    ) -> list[str]:
        """Return the text of each sequence; see ``decode``."""
        return [self.decode(ids, skip_special_tokens=skip_special_tokens) for ids in sequences]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> str | list[str]:
        """Return the text of a single id, or a list of texts for a sequence of ids.

        transformers returns a vocabulary's own spelling here ("Ġthe", "▁the"); localgen returns
        the text itself (" the"). Bytes that are not a complete character are written as \\xNN.
        """
        checked = self._id_list(ids, "convert_ids_to_tokens")
        if np.ndim(to_numpy(ids)) == 0:
            return self._texts.text(checked[0])
        is_special = self._vocab.is_special
        shown = [i for i in checked if not (skip_special_tokens and is_special(i))]
        return [self._texts.text(i) for i in shown]

    def convert_tokens_to_ids(self, tokens: str | Iterable[str]) -> int | list[int | None] | None:
        """Return the id of a token's text, or a list for several; None if no token has that text.

        Texts are those of ``convert_ids_to_tokens``. Raises ValueError if several tokens have the
        same text, as letters do in a vocabulary that also has tokens for single bytes.
        """
        if isinstance(tokens, str):
            return self._texts.id_of(tokens)
        return [self._texts.id_of(token) for token in tokens]

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of a token; for a special token, its spelling."""
        data = self._bytes.get(token_id)
        if data is None:
            data = self._bytes[token_id] = self._vocab.token_bytes(token_id)
        return data

    def text_bytes(self, token_id: int) -> bytes:
        """Return the bytes of a token; for a special token, none."""
        data = self._text_bytes.get(token_id)
        if data is None:
            special = self._vocab.is_special(token_id)
            data = self._text_bytes[token_id] = b"" if special else self.token_bytes(token_id)
        return data

    def _id_list(self, token_ids: Any, what: str) -> list[int]:
        """Return checked ids as a list; ``what`` names the method in errors."""
        ids = np.atleast_1d(np.asarray(to_numpy(token_ids)))
        if ids.ndim != 1:
            raise ValueError(f"{what} takes one sequence of token ids, got shape {ids.shape}")
        if ids.size and ids.dtype.kind not in "iu":
            raise ValueError(f"token ids must be integers, got {ids.dtype}")
        check_ids(ids, self.vocab_size, what)
        checked: list[int] = ids.tolist()
        return checked
