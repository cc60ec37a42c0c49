"""What the program's side needs of a model that is in the worker: its facts and vocabulary."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localgen.engine.backend import TokenIds
from localgen.generation.model_facts import Weight
from localgen.text.vocab import TokenType
from localgen.worker.calls import Kind
from localgen.worker.client import Client
from localgen.worker.events import Facts


class RemoteVocab:
    """Implements ``text.vocab.Vocab``: the worker tokenizes; its tokens are fetched once."""

    def __init__(self, client: Client, facts: Facts) -> None:
        self._client = client
        vocab = facts.vocab
        self.n_vocab = vocab.n_vocab
        self.n_ctx_train = vocab.n_ctx_train
        self.bos_token_id = vocab.bos_token_id
        self.eos_token_id = vocab.eos_token_id
        self.pad_token_id = vocab.pad_token_id
        self.unk_token_id = vocab.unk_token_id
        self.adds_space_prefix = vocab.adds_space_prefix
        self.adds_bos = vocab.adds_bos
        self.chat_templates: Mapping[str, str] = vocab.chat_templates
        self.eog_ids = vocab.eog_ids

    def token_text(self, token_id: int) -> str:
        text: str = self._table[0][token_id]
        return text

    def token_bytes(self, token_id: int) -> bytes:
        data: bytes = self._table[1][token_id]
        return data

    def token_type(self, token_id: int) -> TokenType:
        kind: TokenType = self._table[2][token_id]
        return kind

    def is_special(self, token_id: int) -> bool:
        special: bool = self._table[3][token_id]
        return special

    def tokenize(self, text: bytes, *, add_special: bool, parse_special: bool) -> TokenIds:
        """See ``Vocab``."""
        arguments = {"text": text, "add_special": add_special, "parse_special": parse_special}
        token_ids: TokenIds = self._client.ask("tokenize", arguments, Kind.VOCAB)
        return token_ids

    @functools.cached_property
    def _table(self) -> tuple[Any, ...]:
        table: tuple[Any, ...] = self._client.ask("vocab_table", {}, Kind.VOCAB)
        return table


class RemoteBackend:
    """What ``LocalModel`` asks of its backend, besides what the worker does itself."""

    def __init__(self, client: Client, facts: Facts, path: Path) -> None:
        self._client = client
        self.path = path
        self.vocab = RemoteVocab(client, facts)
        self.sampling_defaults = facts.sampling_defaults
        self.weights: tuple[Weight, ...] = facts.weights
        # The worker ends where nobody holds the model any more, and when Python ends.
        weakref.finalize(self, client.supervisor.abandon)

    @property
    def is_forked(self) -> bool:
        return self._client.supervisor.is_forked

    def check_usable(self) -> None:
        """Raise ClosedError or BackendError unless this process may use the model now."""
        self._client.supervisor.check_usable()

    def n_slots_that_fit(self, n_tokens: int) -> int:
        """See ``engine.backend.Backend``."""
        n_slots: int = self._client.ask("n_slots_that_fit", {"n_tokens": n_tokens}, Kind.VOCAB)
        return n_slots

    def close(self) -> None:
        """End the worker."""
        self._client.supervisor.close()
