"""The beginning of later prompts, computed once and pinned in the KV cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from localgen.call_maker import one_or_all
from localgen.completion import Completion
from localgen.engine.backend import TokenIds
from localgen.engine.sequence import Sequence as Row
from localgen.engine.slots import Entry

if TYPE_CHECKING:
    from localgen.model import LocalModel
    from localgen.stream import CompletionStream


class Prefix:
    """Token ids whose KV stays in the cache until ``release()``, or the end of a ``with`` block.

    A prompt that begins with them computes only what follows, whoever asks for it.
    """

    def __init__(self, model: LocalModel, token_ids: TokenIds, row: Row) -> None:
        self._model = model
        self.token_ids = token_ids
        self._row = row

    def __enter__(self) -> Prefix:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def is_cached(self) -> bool:
        """Whether it still is in the cache; False after ``release()``, or if the cache was lost."""
        return isinstance(self._row.kept, Entry) and self._row.kept.slot is not None

    def release(self) -> None:
        """Let the cache forget it; calling it again does nothing."""
        entry, self._row.kept = self._row.kept, None
        if isinstance(entry, Entry):
            self._model._unpin(entry)

    def fork(self, n: int) -> list[Prefix]:
        """``n`` prefixes of their own that begin as this one does; ``extend`` them apart."""
        return [self._model.prefill(self.token_ids.tolist()) for _ in range(n)]

    def extend(self, text: str) -> Prefix:
        """A pinned prefix of this one and ``text``; only ``text`` is computed."""
        return self._model.prefill(self._with(text))

    def complete(self, texts: str | list[str], **options: Any) -> Completion | list[Completion]:
        """``model.complete()`` of this prefix and each text after it."""
        prompts = [self._with(text) for text in ([texts] if isinstance(texts, str) else texts)]
        return one_or_all(texts, self._model.complete(prompts, **options))

    def stream(self, text: str, **options: Any) -> CompletionStream:
        """``model.stream()`` of this prefix and a text after it."""
        return self._model.stream(self._with(text), **options)

    def _with(self, text: str) -> list[int]:
        ids = self._model.tokenizer.encode(text, add_special_tokens=False)
        return [*self.token_ids.tolist(), *ids]
