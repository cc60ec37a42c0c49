"""The special tokens of a tokenizer by their role, readable and settable as in transformers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, overload

from localgen._util.checks import check_int
from localgen.text.token_texts import TokenTexts
from localgen.text.vocab import Vocab

ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


class _TokenId:
    """The property ``ROLE_token_id``."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._role = name.removesuffix("_token_id")

    @overload
    def __get__(self, tokens: None, owner: type) -> _TokenId: ...
    @overload
    def __get__(self, tokens: SpecialTokens, owner: type) -> int | None: ...
    def __get__(self, tokens: SpecialTokens | None, owner: type) -> Any:
        return self if tokens is None else tokens._roles[self._role]

    def __set__(self, tokens: SpecialTokens, token_id: int | None) -> None:
        if token_id is not None:
            last = tokens._vocab.n_vocab - 1
            token_id = check_int(f"{self._role}_token_id", token_id, 0, last)
        tokens._roles[self._role] = token_id


class _Token:
    """The property ``ROLE_token``: the token's spelling."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._role = name.removesuffix("_token")

    @overload
    def __get__(self, tokens: None, owner: type) -> _Token: ...
    @overload
    def __get__(self, tokens: SpecialTokens, owner: type) -> str | None: ...
    def __get__(self, tokens: SpecialTokens | None, owner: type) -> Any:
        if tokens is None:
            return self
        token_id = tokens._roles[self._role]
        return None if token_id is None else tokens._texts.spelling(token_id)

    def __set__(self, tokens: SpecialTokens, token: str | None) -> None:
        tokens._roles[self._role] = (
            None if token is None else tokens._existing(f"{self._role}_token", token)
        )


class SpecialTokens:
    """The special tokens of one tokenizer.

    Setting one changes this tokenizer and the chat templates it renders. ``generate()`` reads the
    vocabulary and its own options, as in transformers.
    """

    bos_token_id, bos_token = _TokenId(), _Token()
    eos_token_id, eos_token = _TokenId(), _Token()
    unk_token_id, unk_token = _TokenId(), _Token()
    sep_token_id, sep_token = _TokenId(), _Token()
    # The vocabulary's, or else its EOS token.
    pad_token_id, pad_token = _TokenId(), _Token()
    cls_token_id, cls_token = _TokenId(), _Token()
    mask_token_id, mask_token = _TokenId(), _Token()

    def __init__(self, vocab: Vocab, texts: TokenTexts) -> None:
        self._vocab = vocab
        self._texts = texts
        self._roles: dict[str, int | None] = dict.fromkeys(ROLES)
        self._roles |= {
            "bos": vocab.bos_token_id,
            "eos": vocab.eos_token_id,
            "unk": vocab.unk_token_id,
            "pad": vocab.eos_token_id if vocab.pad_token_id is None else vocab.pad_token_id,
        }

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """The spelling of each special token by its role, such as ``{"eos_token": "</s>"}``."""
        tokens = {f"{role}_token": getattr(self, f"{role}_token") for role in ROLES}
        return {name: token for name, token in tokens.items() if token is not None}

    @property
    def all_special_tokens(self) -> list[str]:
        """The spellings of ``all_special_ids``."""
        return list(dict.fromkeys(self.special_tokens_map.values()))

    @property
    def all_special_ids(self) -> list[int]:
        """The tokens with a role: BOS, EOS, … See ``control_token_ids`` for all of the file."""
        return list(dict.fromkeys(i for i in self._roles.values() if i is not None))

    @property
    def control_token_ids(self) -> list[int]:
        """All tokens that ``skip_special_tokens`` skips and that no text may spell unasked."""
        return [i for i in range(self._vocab.n_vocab) if self._vocab.is_special(i)]

    def add_special_tokens(self, special_tokens_dict: Mapping[str, Any]) -> int:
        """Give roles to tokens of the vocabulary, as ``{"pad_token": "<|endoftext|>"}``; return 0.

        Raises ValueError for a token that the vocabulary lacks: it cannot grow.
        """
        roles = [f"{role}_token" for role in ROLES]
        for name, token in special_tokens_dict.items():
            if name in roles:
                setattr(self, name, token)
            elif name in ("additional_special_tokens", "extra_special_tokens"):
                self.add_tokens(token)
            else:
                raise ValueError(f"{name!r} is no role of a special token: {', '.join(roles)}")
        return 0

    def add_tokens(self, new_tokens: str | Iterable[str], special_tokens: bool = False) -> int:
        """Return 0 if the vocabulary has all of the tokens, of whatever kind they are.

        Raises ValueError for one that it lacks: it cannot grow.
        """
        for token in [new_tokens] if isinstance(new_tokens, str) else new_tokens:
            self._existing("each token", token)
        return 0

    def _existing(self, name: str, token: str) -> int:
        token_id = self._texts.ids.get(str(token))
        if token_id is None:
            raise ValueError(
                f"{name} must be a token of the vocabulary, got {token!r}: the vocabulary of a "
                f"GGUF file cannot grow; to pad, use tokenizer.eos_token, which the attention "
                f"mask tells from padding"
            )
        return token_id
