"""A model's sessions: what its KV cache holds → a file, and back; the file itself is ``session``'s.

States are copied between two steps, and the disk is waited for outside of them, so that no row
waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from localgen.config import ModelConfig
from localgen.engine.engine import Engine
from localgen.engine.kv_cache import KvCache
from localgen.errors import StateError
from localgen.generation import session_file
from localgen.generation.driver import Driver


class Sessions:
    """Those of one model; see ``LocalModel.save_session`` and ``load_session``."""

    def __init__(self, backend: Any, loop: Engine, turns: Driver, config: ModelConfig) -> None:
        self._backend = backend
        self._loop = loop
        self._turns = turns
        self._config = config

    def save(self, path: Path) -> int:
        self._check()
        with self._kv_cache() as kv_cache:
            saved = kv_cache.save()
        session_file.write(path, self._backend.state_identity, saved)
        return len(saved)

    def load(self, path: Path) -> int:
        self._check()
        saved = session_file.read(path, self._backend.state_identity)
        n_ctx = self._config.n_ctx
        if saved and len(saved[-1].token_ids) > n_ctx:
            raise StateError(
                f"{path} ends with a sequence of {len(saved[-1].token_ids)} tokens and n_ctx is "
                f"{n_ctx}: load the model with a larger n_ctx"
            )
        with self._kv_cache() as kv_cache:
            return kv_cache.restore([each for each in saved if len(each.token_ids) <= n_ctx])

    def _check(self) -> None:
        """StateError unless what this model computes can be kept in a file."""
        self._backend.check_usable()
        obstacle = self._backend.not_saved_because
        if self._config.deterministic:
            obstacle = "with deterministic=True nothing that was computed is used again"
        if obstacle:
            raise StateError(f"this model can have no sessions: {obstacle}")

    @contextmanager
    def _kv_cache(self) -> Iterator[KvCache]:
        """The KV cache between two steps; an error inside leaves nothing half done."""
        with self._turns.alone():
            self._backend.check_usable()
            try:
                yield self._loop.kv_cache
            except StateError:
                raise
            except BaseException:
                self._loop.start_afresh()
                raise
