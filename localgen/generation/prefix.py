"""The beginning of later prompts, computed once and pinned in the KV cache."""

from __future__ import annotations

from typing import Any, Protocol, overload

from localgen.completion import Completion
from localgen.engine.sequence import Sequence
from localgen.generation.inputs import FixedStart, Prompt
from localgen.generation.results import one_or_all
from localgen.generation.streaming import CompletionStream
from localgen.text.tokenizer import Tokenizer


class PrefixModel(Protocol):
    """What a prefix needs of its model; see ``LocalModel``."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    def prefill(self, text: Prompt, *, split_special_tokens: bool = False) -> Prefix: ...

    def complete(self, prompts: list[Prompt], **options: Any) -> list[Completion]: ...

    def stream(self, prompt: Prompt, **options: Any) -> CompletionStream: ...


class Prefix:
    """Token ids whose KV stays in the cache until ``release()``, the end of a ``with`` block, or as
    long as this object lives.

    A prompt that begins with them computes only what follows, whoever asks for it.

    A text after a prefix that was made of text has the token ids of both texts joined. A token that
    spans the boundary is not one of the prefix's: the prefix's last tokens are then recomputed (all
    of them, by a recurrent model). A prefix that ends where a word or a line ends avoids
    that. The ids of a prefix that was made of ids stay as they are: those of the text follow, with
    a space between only after a special token.
    """

    def __init__(
        self, model: PrefixModel, prompt: Prompt, sequence: Sequence, *, split_special_tokens: bool
    ) -> None:
        """prompt, split_special_tokens: what ``sequence``, which is still to run, was made of."""
        self._model = model
        self._text = prompt if isinstance(prompt, str) else None
        self._split_special_tokens = split_special_tokens
        self.token_ids = sequence.prompt_ids
        self._sequence: Sequence | None = sequence

    def __enter__(self) -> Prefix:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __del__(self) -> None:
        # Perhaps in the middle of a step; unpinning is safe then.
        self.release()

    @property
    def is_cached(self) -> bool:
        """Whether it still is in the cache; False after ``release()``, or if the cache was lost."""
        cached = None if self._sequence is None else self._sequence.cached
        return cached is not None and cached.seq_id is not None

    def release(self) -> None:
        """Let the cache drop it; calling it again does nothing."""
        sequence = getattr(self, "_sequence", None)
        if sequence is not None:
            sequence.pins = False
            if sequence.cached is not None:
                sequence.cached.is_pinned = False
        self._sequence = None

    def fork(self, n: int) -> list[Prefix]:
        """Return ``n`` prefixes of their own that begin as this one does; ``extend`` them apart."""
        prompt = self.token_ids.tolist() if self._text is None else self._text
        split = self._split_special_tokens
        return [self._model.prefill(prompt, split_special_tokens=split) for _ in range(n)]

    def extend(self, text: str, *, split_special_tokens: bool | None = None) -> Prefix:
        """Return a pinned prefix of this one and ``text``; only ``text`` is computed.

        split_special_tokens: see ``Tokenizer.encode``; None is as this prefix was made.
        """
        split = self._split_or(split_special_tokens)
        return self._model.prefill(self._with(text, split), split_special_tokens=split)

    @overload
    def complete(
        self, texts: str, *, split_special_tokens: bool | None = None, **options: Any
    ) -> Completion: ...

    @overload
    def complete(
        self, texts: list[str], *, split_special_tokens: bool | None = None, **options: Any
    ) -> list[Completion]: ...

    def complete(
        self, texts: str | list[str], *, split_special_tokens: bool | None = None, **options: Any
    ) -> Completion | list[Completion]:
        """Return ``model.complete()`` of this prefix followed by each text.

        split_special_tokens: whether special tokens that the texts spell are taken as text,
        whatever was chosen for the prefix; None is as it was made.
        """
        split = self._split_or(split_special_tokens)
        given = [texts] if isinstance(texts, str) else texts
        prompts = [self._after(text, split) for text in given]
        done = self._model.complete(prompts, split_special_tokens=split, **options)
        return one_or_all(texts, done)

    def stream(
        self, text: str, *, split_special_tokens: bool | None = None, **options: Any
    ) -> CompletionStream:
        """Return ``model.stream()`` of this prefix followed by a text; see ``complete()``."""
        split = self._split_or(split_special_tokens)
        return self._model.stream(self._after(text, split), split_special_tokens=split, **options)

    def _split_or(self, given: bool | None) -> bool:
        return self._split_special_tokens if given is None else given

    def _after(self, text: str, split: bool) -> Prompt:
        """Return the prompt of a text after this prefix, which token healing leaves as it is."""
        return FixedStart(self._with(text, split), self.token_ids.tolist())

    def _with(self, text: str, split: bool) -> str | list[int]:
        """Both texts joined, if special tokens are treated alike in both; else token ids."""
        if self._text is not None and split == self._split_special_tokens:
            return self._text + text
        after = self._model.tokenizer.encode_after(
            int(self.token_ids[-1]), text, split_special_tokens=split
        )
        return [*self.token_ids.tolist(), *after]
