"""Conversations → prompts of one model: its chat templates together with its vocabulary."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from localgen.text.chat_arguments import Message
from localgen.text.chat_encoder import ChatEncoder, ChatTemplates
from localgen.text.chat_template import ChatTemplate
from localgen.text.vocab import Vocab


class _Encode(Protocol):
    def __call__(
        self, text: str, *, add_special_tokens: bool = True, split_special_tokens: bool = False
    ) -> list[int]: ...


class ChatPrompts:
    """Renders conversations, and encodes them.

    encode: see ``Tokenizer.encode``. special_ids: returns the tokens that a message must not
    become; called once, when first needed, since it looks at every token.
    """

    def __init__(
        self, vocab: Vocab, encode: _Encode, special_ids: Callable[[], Iterable[int]]
    ) -> None:
        self._vocab = vocab
        self._encode = encode
        self._special_ids = special_ids
        self._templates = ChatTemplates(vocab.chat_templates)

    @functools.cached_property
    def _encoder(self) -> ChatEncoder:
        return ChatEncoder(
            {self._spelling(token_id): token_id for token_id in self._special_ids()},
            lambda text: self._encode(text, add_special_tokens=False, split_special_tokens=True),
            lambda text: self._encode(text, add_special_tokens=False),
        )

    def _spelling(self, token_id: int) -> str:
        return self._vocab.token_bytes(token_id).decode("utf-8", errors="replace")

    def template(self, wanted: str | None, *, has_tools: bool) -> ChatTemplate:
        """Return a template; see ``ChatTemplates.choose``."""
        return self._templates.choose(wanted, has_tools=has_tools)

    def encode(
        self,
        template: ChatTemplate,
        chat: Sequence[Message],
        *,
        split_special_tokens: bool,
        **given: Any,
    ) -> list[int]:
        """Return the token ids of a conversation; see ``ChatEncoder.encode``.

        BOS is added if the model expects it and the template did not write it.
        """
        ids = self._encoder.encode(
            template, chat, split_special_tokens=split_special_tokens, **given
        )
        bos = self._vocab.bos_token_id
        return ids if bos is None or not self._vocab.adds_bos or ids[:1] == [bos] else [bos, *ids]
