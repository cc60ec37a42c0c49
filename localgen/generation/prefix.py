"""The beginning of later prompts, computed once and pinned in the KV cache."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from localgen.completion import Completion
from localgen.engine.sequence import Sequence as Row
from localgen.engine.slots import CachedSequence
from localgen.generation.request_builder import Prompt, one_or_all

if TYPE_CHECKING:
    from localgen.generation.streaming import CompletionStream
    from localgen.model import LocalModel

# A character that is in no vocabulary: no token reaches across it.
_APART = "\ufdd0"


class Prefix:
    """Token ids whose KV stays in the cache until ``release()``, the end of a ``with`` block, or as
    long as somebody holds this.

    A prompt that begins with them computes only what follows, whoever asks for it.

    A text after a prefix that was made of text has the ids of both texts joined. Where a token
    reaches across the border, it is not one of the prefix's: the prefix's last tokens are then
    computed anew (all of them, by a recurrent model), which a prefix that ends where a word or a
    line does avoids. The ids of a prefix that was made of ids stay as they are: a text's come after
    them, with no space put between but after a special token.
    """

    def __init__(
        self, model: LocalModel, prompt: Prompt, row: Row, *, split_special_tokens: bool
    ) -> None:
        """prompt, split_special_tokens: what ``row`` was made of."""
        self._model = model
        self._text = prompt if isinstance(prompt, str) else None
        self._split_special_tokens = split_special_tokens
        self.token_ids = row.prompt_ids
        self._row = row

    def __enter__(self) -> Prefix:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __del__(self) -> None:
        # Perhaps in the middle of a step, which a pin that is gone does not harm.
        self.release()

    @property
    def is_cached(self) -> bool:
        """Whether it still is in the cache; False after ``release()``, or if the cache was lost."""
        return isinstance(self._row.kept, CachedSequence) and self._row.kept.slot is not None

    def release(self) -> None:
        """Let the cache forget it; calling it again does nothing."""
        entry, self._row.kept = self._row.kept, None
        if isinstance(entry, CachedSequence):
            self._model._unpin(entry)

    def fork(self, n: int) -> list[Prefix]:
        """``n`` prefixes of their own that begin as this one does; ``extend`` them apart."""
        prompt = self.token_ids.tolist() if self._text is None else self._text
        split = self._split_special_tokens
        return [self._model.prefill(prompt, split_special_tokens=split) for _ in range(n)]

    def extend(self, text: str, *, split_special_tokens: bool | None = None) -> Prefix:
        """A pinned prefix of this one and ``text``; only ``text`` is computed.

        split_special_tokens: see ``Tokenizer.encode``; None is as this prefix was made.
        """
        split = self._split_or(split_special_tokens)
        return self._model.prefill(self._with(text, split), split_special_tokens=split)

    def complete(
        self, texts: str | list[str], *, split_special_tokens: bool | None = None, **options: Any
    ) -> Completion | list[Completion]:
        """``model.complete()`` of this prefix and each text after it.

        split_special_tokens: whether special tokens that the texts spell are taken as text,
        whatever was asked for the prefix; None is as it was made.
        """
        split = self._split_or(split_special_tokens)
        given = [texts] if isinstance(texts, str) else texts
        prompts = [self._with(text, split) for text in given]
        done = self._model.complete(prompts, split_special_tokens=split, **options)
        return one_or_all(texts, done)

    def stream(
        self, text: str, *, split_special_tokens: bool | None = None, **options: Any
    ) -> CompletionStream:
        """``model.stream()`` of this prefix and a text after it; see ``complete()``."""
        split = self._split_or(split_special_tokens)
        return self._model.stream(self._with(text, split), split_special_tokens=split, **options)

    def _split_or(self, given: bool | None) -> bool:
        return self._split_special_tokens if given is None else given

    def _with(self, text: str, split: bool) -> Prompt:
        """Both texts joined, where special tokens are taken alike in both; else token ids."""
        if self._text is not None and split == self._split_special_tokens:
            return self._text + text
        return [*self.token_ids.tolist(), *self._ids_after(text, split)]

    def _ids_after(self, text: str, split: bool) -> list[int]:
        """Token ids of ``text`` alone, after those of this prefix."""
        encode = partial(
            self._model.tokenizer.encode, add_special_tokens=False, split_special_tokens=split
        )
        vocab = self._model._backend.vocab
        # Such a vocabulary puts a space where a text begins: at the start and after special tokens.
        if not vocab.adds_space_prefix or vocab.is_special(int(self.token_ids[-1])):
            return encode(text)
        return encode(_APART + text)[len(encode(_APART)) :]
