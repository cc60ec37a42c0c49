"""The Protocol of a vocabulary, as the tokenizer sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from localgen.engine.backend import TokenIds

# GGUF's types of token. "user_defined": an ordinary token that is never split.
TokenType = Literal["normal", "unknown", "control", "user_defined", "unused", "byte"]


class Vocab(Protocol):
    """What a tokenizer needs of a vocabulary; ``llama.vocab.LlamaVocab`` implements it.

    Special tokens are None if the vocabulary has none. chat_templates: their sources by name.
    """

    @property
    def n_vocab(self) -> int: ...

    @property
    def n_ctx_train(self) -> int | None:
        """The longest sequence that the model was trained on, in tokens; None if unknown."""

    @property
    def bos_token_id(self) -> int | None: ...

    @property
    def eos_token_id(self) -> int | None: ...

    @property
    def pad_token_id(self) -> int | None: ...

    @property
    def unk_token_id(self) -> int | None: ...

    @property
    def adds_space_prefix(self) -> bool:
        """Whether a space is put before a text that follows no ordinary token."""

    @property
    def adds_bos(self) -> bool:
        """Whether the model expects BOS before a text."""

    @property
    def chat_templates(self) -> Mapping[str, str]: ...

    @property
    def eog_ids(self) -> tuple[int, ...]:
        """All tokens that end generation."""

    def token_type(self, token_id: int) -> TokenType: ...

    def is_special(self, token_id: int) -> bool:
        """Return whether ``skip_special_tokens`` skips the token."""

    def tokenize(self, text: bytes, *, add_special: bool, parse_special: bool) -> TokenIds:
        """Return the int32 (n,) token ids of UTF-8 ``text``.

        add_special: add BOS and EOS if the model expects them. parse_special: encode the spelling
        of a special token as that token.
        """

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of a token; for a special token, its spelling."""

    def token_text(self, token_id: int) -> str:
        """Return the vocabulary's own spelling of a token ("Ġthe", "▁the", "<0x0A>"), unique."""
