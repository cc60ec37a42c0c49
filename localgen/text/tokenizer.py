"""Text ↔ token ids with the interface of a transformers tokenizer; it knows no C and no model."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, overload

import numpy as np

from localgen._util.arrays import to_numpy
from localgen._util.checks import check_int
from localgen._util.kept import Kept
from localgen.engine.sampling.dry import Breakers
from localgen.text.batch_encoding import (
    BatchEncoding,
    Columns,
    Encoding,
    as_columns,
    as_data,
    check_tensor_type,
    pad_columns,
)
from localgen.text.chat_arguments import (
    Message,
    as_conversations,
    check_call_options,
    warn_unless_read,
    without_unsupported,
)
from localgen.text.decoding import clean_up, id_list, is_batch
from localgen.text.dry_breakers import breakers_of
from localgen.text.encoder import EncodeOptions, Encoder
from localgen.text.padding import PaddingOptions, check_side, padding_options
from localgen.text.special_tokens import SpecialTokens
from localgen.text.token_texts import TokenTexts
from localgen.text.tool_schema import Tool, as_schemas
from localgen.text.vocab import Vocab

if TYPE_CHECKING:
    from localgen.text.chat_prompts import ChatPrompts

_MOST_BREAKERS_KEPT = 16


class Tokenizer(SpecialTokens):
    """Text ↔ token ids, lossless in both directions if the vocabulary has a token for every byte.

    Some vocabularies lack a few (SmolLM2's has no token for some control characters): llama.cpp,
    like transformers, drops such characters.

    ``padding_side`` defaults to "left", so that new tokens follow each prompt, and
    ``truncation_side`` to "right"; both can be set. ``name_or_path`` is the model's file.
    """

    is_fast = True
    clean_up_tokenization_spaces = False

    def __init__(self, vocab: Vocab, *, owner: object = None, name_or_path: str = "") -> None:
        """owner: what ``vocab`` belongs to; it lives as long as this tokenizer does."""
        self._bytes: dict[int, bytes] = {}
        self._text_bytes: dict[int, bytes] = {}
        self._dry_breakers: Kept[Breakers] = Kept(_MOST_BREAKERS_KEPT)
        super().__init__(vocab, TokenTexts(vocab, self.token_bytes))
        self._owner = owner
        self.name_or_path = name_or_path
        self._encoder = Encoder(vocab)
        self._padding_side = "left"
        self._truncation_side = "right"
        self._model_max_length = vocab.n_ctx_train
        self._chat_template: str | None = None

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, eos_token_id={self.eos_token_id})"

    def __len__(self) -> int:
        return self._vocab.n_vocab

    def __copy__(self) -> Tokenizer:
        clone = Tokenizer(self._vocab, owner=self._owner, name_or_path=self.name_or_path)
        settings = ("_padding_side", "_truncation_side", "_model_max_length", "_chat_template")
        for name in settings:
            setattr(clone, name, getattr(self, name))
        clone._roles = dict(self._roles)
        return clone

    def __deepcopy__(self, memo: dict[int, Any]) -> Tokenizer:
        """Return a tokenizer with settings of its own, for the vocabulary of the same model."""
        return self.__copy__()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a tokenizer belongs to a loaded model and cannot be pickled: send the name of the "
            f"model{f' ({self.name_or_path})' * bool(self.name_or_path)} to the other process, and "
            f"load it there with LocalModel.from_pretrained"
        )

    def save_pretrained(self, *_: Any, **__: Any) -> NoReturn:
        """Raise TypeError: the tokenizer is a part of the model's GGUF file."""
        raise TypeError(
            "a GGUF file holds model and tokenizer together, and localgen writes no other format: "
            "copy that file, or save the original model's tokenizer with transformers"
        )

    # --- settings ---

    @property
    def vocab_size(self) -> int:
        return self._vocab.n_vocab

    @property
    def eos_token_ids(self) -> list[int]:
        """All tokens that end generation by default: EOS, end of turn and the like."""
        return list(self._vocab.eog_ids)

    @property
    def model_max_length(self) -> int | None:
        """What texts are cut or padded to without ``max_length``: the tokens that the model was
        trained on; None if its file does not say."""
        return self._model_max_length

    @model_max_length.setter
    def model_max_length(self, n_tokens: int) -> None:
        self._model_max_length = check_int("model_max_length", n_tokens, 1)

    @property
    def model_input_names(self) -> list[str]:
        """What a call returns by default."""
        return ["input_ids", "attention_mask"]

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

    # --- text to token ids ---

    def __call__(
        self,
        text: str | Iterable[str],
        text_pair: None = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_attention_mask: bool | None = None,
        return_token_type_ids: bool | None = None,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        split_special_tokens: bool = False,
        **options: Any,
    ) -> BatchEncoding:
        """Encode one text or several.

        padding: True or "longest" to pad to the longest text, "max_length" to pad to
        ``max_length`` tokens, on ``padding_side``; the result then holds int64 NumPy arrays
        (batch, length). False or "do_not_pad" for no padding.
        truncation: True to cut texts to ``max_length`` tokens on ``truncation_side``. Special
        tokens that are added count, and are kept. max_length: defaults to ``model_max_length``.
        pad_to_multiple_of: round the padded length up.
        return_tensors: "np" or "pt" for arrays or torch tensors; None for lists (arrays if
        padded). The other ``return_`` arguments add or remove columns: ``attention_mask``,
        ``token_type_ids`` (zeros), ``special_tokens_mask`` (1 for tokens that were added),
        ``offset_mapping`` (the first character of each token, and the one after its last) and
        ``length``. split_special_tokens: see ``encode``.
        options: arguments that only transformers has, at a value that changes nothing. Raises
        TypeError for other arguments, with a reason or a suggestion.
        """
        if options or text_pair is not None:
            check_call_options(
                {"text_pair": text_pair, **options}, inspect.signature(self.__call__).parameters
            )
        texts = _texts(text)
        padding_ = padding_options(
            padding,
            truncation,
            max_length,
            pad_to_multiple_of=pad_to_multiple_of,
            model_max_length=self._model_max_length,
        )
        columns = {
            "attention_mask": return_attention_mask is not False,
            "token_type_ids": bool(return_token_type_ids),
            "special_tokens_mask": return_special_tokens_mask,
            "offset_mapping": return_offsets_mapping,
        }
        names = [name for name, is_wanted in columns.items() if is_wanted]
        how = EncodeOptions(
            add_special_tokens=add_special_tokens,
            split_special_tokens=split_special_tokens,
            cut_to=padding_.cut_to,
            truncation_side=self._truncation_side,
        )
        rows = [self._encoder.columns(each, names, how) for each in texts]
        encoding = self._encoding(
            {name: [row[name] for row in rows] for name in rows[0]},
            padding_,
            return_tensors,
            single=isinstance(text, str),
            padding_side=padding_side,
            return_length=return_length,
        )
        width = None if isinstance(encoding["input_ids"], list) else encoding["input_ids"].shape[1]
        side = padding_side or self._padding_side
        encoding.attach(len(texts), lambda i: self._text_encoding(texts[i], how, width, side))
        return encoding

    def _text_encoding(
        self, text: str, how: EncodeOptions, width: int | None, side: str
    ) -> Encoding:
        """Return everything about a text, padded to ``width`` tokens."""

        def padded(*names: str) -> dict[str, list[Any]]:
            row = self._encoder.columns(text, names, how)
            padding = PaddingOptions(pads=width is not None, pad_to=width)
            columns = {name: [values] for name, values in row.items()}
            columns = pad_columns(columns, padding, self.pad_token_id, side)
            return {name: values for name, (values,) in columns.items()}

        row = padded("attention_mask", "special_tokens_mask")
        return Encoding(
            ids=row["input_ids"],
            attention_mask=row["attention_mask"],
            tokens=list(map(self._texts.spelling, row["input_ids"])),
            special_tokens_mask=row["special_tokens_mask"],
            locate=lambda: padded("offset_mapping")["offset_mapping"],
        )

    def _encoding(
        self,
        columns: Columns,
        padding: PaddingOptions,
        return_tensors: str | None,
        *,
        single: bool,
        padding_side: str | None = None,
        return_length: bool = False,
    ) -> BatchEncoding:
        check_tensor_type(return_tensors)
        side = self._padding_side
        if padding_side is not None:
            side = check_side("padding_side", padding_side)
        as_arrays = padding.pads or return_tensors is not None
        if as_arrays:
            columns = pad_columns(columns, padding, self.pad_token_id, side)
        data = as_data(columns, return_tensors, as_arrays=as_arrays, single=single)
        if return_length:
            lengths: Any = {"length": [len(ids) for ids in columns["input_ids"]]}
            data |= as_data(lengths, return_tensors, as_arrays=as_arrays, single=False)
        return BatchEncoding(data)

    @overload
    def encode(
        self,
        text: str,
        text_pair: None = None,
        *,
        add_special_tokens: bool = ...,
        split_special_tokens: bool = ...,
        return_tensors: None = ...,
        **options: Any,
    ) -> list[int]: ...
    @overload
    def encode(
        self,
        text: str,
        text_pair: None = None,
        *,
        add_special_tokens: bool = ...,
        split_special_tokens: bool = ...,
        return_tensors: str,
        **options: Any,
    ) -> Any: ...
    def encode(
        self,
        text: str,
        text_pair: None = None,
        *,
        add_special_tokens: bool = True,
        split_special_tokens: bool = False,
        return_tensors: str | None = None,
        **options: Any,
    ) -> Any:
        """Return the token ids of ``text`` as a list; with ``return_tensors`` as a batch of one.

        add_special_tokens: add BOS and EOS if the model expects them. split_special_tokens: encode
        the spelling of a special token in ``text`` as plain text; by default it becomes that
        token, as in transformers. options: see ``__call__``. Raises ValueError for lone
        surrogates; warns of a text that begins with the BOS that is added.
        """
        if text_pair is None and return_tensors is None and not options:
            return self._encoder.ids(
                text,
                add_special_tokens=add_special_tokens,
                split_special_tokens=split_special_tokens,
            )
        ids = self(
            text,
            text_pair,
            add_special_tokens=add_special_tokens,
            split_special_tokens=split_special_tokens,
            return_tensors=return_tensors,
            **options,
        )["input_ids"]
        return ids if return_tensors is not None else np.ravel(ids).tolist()

    def encode_after(
        self, token_id: int, text: str, *, split_special_tokens: bool = False
    ) -> list[int]:
        """Return the token ids of a text that follows ``token_id``; see ``encode``.

        No special tokens are added, and a space in front only after a special token.
        """
        return self._encoder.ids_after(token_id, text, split_special_tokens=split_special_tokens)

    def tokenize(
        self,
        text: str,
        *,
        add_special_tokens: bool = False,
        split_special_tokens: bool = False,
        **others: object,
    ) -> list[str]:
        """Return the tokens of ``text`` in the vocabulary's spelling; see ``encode``.

        Raises TypeError for arguments of ``__call__`` such as truncation.
        """
        if others:
            raise TypeError(
                f"tokenize() returns all tokens of a text, got {', '.join(others)}: use "
                f"tokenizer(text, …) and its tokens(), or slice the list"
            )
        ids = self._encoder.ids(
            text, add_special_tokens=add_special_tokens, split_special_tokens=split_special_tokens
        )
        return list(map(self._texts.spelling, ids))

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Return how many special tokens ``__call__`` adds to a text; TypeError for a pair."""
        if pair:
            raise TypeError("num_special_tokens_to_add(pair=True): localgen has no pairs of texts")
        return len(self.encode("a")) - len(self.encode("a", add_special_tokens=False))

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        verbose: bool = True,
    ) -> BatchEncoding:
        """Pad what was encoded before: a BatchEncoding, or a list of them; see ``__call__``.

        verbose: accepted for transformers' sake; there is nothing to be said.
        """
        options = padding_options(
            padding,
            max_length=max_length,
            pad_to_multiple_of=pad_to_multiple_of,
            model_max_length=self._model_max_length,
        )
        columns, single = as_columns(encoded_inputs)
        if return_attention_mask is False:
            columns.pop("attention_mask", None)
        elif "attention_mask" not in columns:
            columns["attention_mask"] = [[1] * len(ids) for ids in columns["input_ids"]]
        return self._encoding(
            columns, options, return_tensors, single=single, padding_side=padding_side
        )

    # --- chats ---

    @property
    def chat_template(self) -> str | None:
        """The source of the default chat template, or None; setting it overrides the model's."""
        return self._chat_template or self._vocab.chat_templates.get("default")

    @chat_template.setter
    def chat_template(self, template: str | None) -> None:
        if not isinstance(template, str | None):
            raise TypeError(f"chat_template must be a jinja template as text, got {template!r:.80}")
        self._chat_template = template

    def get_chat_template(
        self, chat_template: str | None = None, tools: Sequence[Tool] | None = None
    ) -> str:
        """Return the source of the template that ``apply_chat_template`` uses for these."""
        wanted = chat_template or self._chat_template
        return self._chats.template(wanted, has_tools=bool(tools)).source

    def chat_template_reads(
        self,
        name: str,
        chat_template: str | None = None,
        tools: Sequence[Tool] | None = None,
    ) -> bool:
        """Return whether that template reads a variable, such as ``enable_thinking``."""
        wanted = chat_template or self._chat_template
        return self._chats.template(wanted, has_tools=bool(tools)).reads(name)

    def apply_chat_template(
        self,
        conversation: Iterable[Message] | Iterable[Iterable[Message]],
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
        chats, several = as_conversations(conversation)
        given: dict[str, Any] = {
            "tools": as_schemas(tools),
            "documents": documents,
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": continue_final_message,
            "variables": variables,
        }
        wanted = chat_template or self._chat_template
        template = self._chats.template(wanted, has_tools=bool(tools))
        warn_unless_read(template, given, inspect.signature(self.apply_chat_template).parameters)
        given["special_tokens"] = {
            f"{role}_token": self._texts.text(token_id)
            for role, token_id in self._roles.items()
            if token_id is not None
        }
        if not tokenize:
            texts = [template.render(chat, **given) for chat in chats]
            return texts if several else texts[0]
        sequences = [
            self._chats.encode(template, chat, split_special_tokens=split_special_tokens, **given)
            for chat in chats
        ]
        columns = {"input_ids": sequences, "attention_mask": [[1] * len(ids) for ids in sequences]}
        encoding = self._encoding(columns, options, return_tensors, single=not several)
        return encoding if return_dict else encoding["input_ids"]

    @cached_property
    def _chats(self) -> ChatPrompts:
        # jinja2 is imported for chats only, which keeps the import of localgen fast.
        from localgen.text.chat_prompts import ChatPrompts  # noqa: PLC0415

        return ChatPrompts(self._vocab, self._encoder.ids, lambda: self.control_token_ids)

    # --- token ids to text ---

    @overload
    def decode(
        self,
        token_ids: Sequence[Sequence[int]],
        skip_special_tokens: bool = ...,
        clean_up_tokenization_spaces: bool | None = ...,
        *,
        spaces_between_special_tokens: bool | None = ...,
    ) -> list[str]: ...
    @overload
    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = ...,
        clean_up_tokenization_spaces: bool | None = ...,
        *,
        spaces_between_special_tokens: bool | None = ...,
    ) -> str: ...
    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        *,
        spaces_between_special_tokens: bool | None = None,
    ) -> Any:
        """Return the text of a sequence of token ids (list, array or tensor), or of a single id.

        Returns a list of texts for a batch. Bytes that are not UTF-8 become U+FFFD. If the
        vocabulary adds a space before a text, that space is removed.
        clean_up_tokenization_spaces: remove spaces before punctuation and English contractions.
        """
        if spaces_between_special_tokens:
            raise TypeError(
                "decode does not support spaces_between_special_tokens=True: tokens are joined as "
                "they are"
            )
        decode = self._cleaned if clean_up_tokenization_spaces else self._decoded
        if is_batch(token_ids):
            return [decode(ids, skip_special_tokens) for ids in token_ids]
        return decode(token_ids, skip_special_tokens)

    def _cleaned(self, token_ids: Any, skip_special_tokens: bool) -> str:
        return clean_up(self._decoded(token_ids, skip_special_tokens))

    def _decoded(self, token_ids: Any, skip_special_tokens: bool) -> str:
        ids = id_list(token_ids, self.vocab_size, "decode")
        is_special = self._vocab.is_special
        shown = [i for i in ids if not (skip_special_tokens and is_special(i))]
        data = b"".join(map(self.token_bytes, shown))
        has_prefix = self._vocab.adds_space_prefix and data.startswith(b" ")
        if has_prefix and not is_special(shown[0]):
            data = data[1:]
        return data.decode("utf-8", errors="replace")

    def batch_decode(
        self,
        sequences: Iterable[Any],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **options: Any,
    ) -> list[str]:
        """Return the text of each sequence; see ``decode``."""
        return [
            self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces, **options)
            for ids in sequences
        ]

    # --- single tokens ---

    @property
    def vocab(self) -> dict[str, int]:
        """All tokens in the vocabulary's spelling, with their ids."""
        return self.get_vocab()

    def get_vocab(self) -> dict[str, int]:
        """Return all tokens in the vocabulary's spelling, with their ids."""
        return dict(self._texts.ids)

    def get_added_vocab(self) -> dict[str, int]:
        """Return the tokens that are never split: special tokens, and those added to the model."""
        return {
            token: token_id
            for token, token_id in self._texts.ids.items()
            if self._vocab.is_special(token_id)
            or self._vocab.token_type(token_id) == "user_defined"
        }

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> str | list[str]:
        """Return the vocabulary's spelling ("Ġthe", "▁the") of one id, or of each of several.

        See ``token_text`` for the text that a token stands for.
        """
        checked = id_list(ids, self.vocab_size, "convert_ids_to_tokens")
        if np.ndim(to_numpy(ids)) == 0:
            return self._texts.spelling(checked[0])
        is_special = self._vocab.is_special
        return [
            self._texts.spelling(i) for i in checked if not (skip_special_tokens and is_special(i))
        ]

    def _convert_id_to_token(self, token_id: int) -> str:
        """Return the spelling of one id; transformers' StopStringCriteria asks by this name."""
        return self._texts.spelling(token_id)

    def convert_tokens_to_ids(self, tokens: str | Iterable[str]) -> int | list[int | None] | None:
        """Return the id of a token in the vocabulary's spelling, or a list for several.

        A text that is no token has the id of the unknown token, or None if there is none.
        """
        ids, unknown = self._texts.ids, self.unk_token_id
        if isinstance(tokens, str):
            return ids.get(tokens, unknown)
        return [ids.get(token, unknown) for token in tokens]

    def convert_tokens_to_string(self, tokens: Iterable[str]) -> str:
        """Return the text of tokens in the vocabulary's spelling; ValueError for unknown ones."""
        tokens = list(tokens)
        ids = [self._texts.ids.get(token) for token in tokens]
        if None in ids:
            token = tokens[ids.index(None)]
            raise ValueError(
                f"{token!r} is no token of the vocabulary, whose spelling convert_ids_to_tokens "
                f"returns"
            )
        return self._decoded(ids, skip_special_tokens=False)

    def token_text(self, token_id: int) -> str:
        """Return the text that a token stands for, " the" where the vocabulary spells "Ġthe".

        Bytes that are not a complete character are written as \\xNN.
        """
        return self._texts.text(id_list(token_id, self.vocab_size, "token_text")[0])

    def token_with_text(self, text: str) -> int | None:
        """Return the token that stands for ``text``, as ``token_text`` writes it; None without one.

        Of several, a special token wins over ordinary ones, and those over a token for a single
        byte. Raises ValueError if that leaves more than one.
        """
        return self._texts.id_of_text(text)

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of a token; for a special token, its spelling."""
        data = self._bytes.get(token_id)
        if data is None:
            data = self._bytes[token_id] = self._vocab.token_bytes(token_id)
        return data

    def dry_breakers(self, texts: tuple[str, ...]) -> Breakers:
        """Return DRY's sequence breakers ``texts`` as token ids; the latest ones are kept."""
        return self._dry_breakers.get(
            texts, lambda: breakers_of(texts, self._vocab, self.token_bytes)
        )

    def text_bytes(self, token_id: int) -> bytes:
        """Return the bytes of a token; for a special token, none."""
        data = self._text_bytes.get(token_id)
        if data is None:
            special = self._vocab.is_special(token_id)
            data = self._text_bytes[token_id] = b"" if special else self.token_bytes(token_id)
        return data


def _texts(text: Any) -> list[str]:
    if not isinstance(text, Iterable) or isinstance(text, bytes | Mapping):
        raise TypeError(f"text must be a str or a list of str, got {text!r:.80}")
    texts = [text] if isinstance(text, str) else list(text)
    if not texts:
        raise ValueError("the batch is empty: pass at least one text")
    return texts
