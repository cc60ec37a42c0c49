"""A model's sessions: the KV cache → a file, and back; the file itself is ``session_file``'s.

States are copied between two steps, and the disk is waited for outside of them, so that no sequence
waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localgen.config import ModelConfig
from localgen.engine.kv_cache import KvCache
from localgen.errors import StateError
from localgen.generation import session_file
from localgen.generation.driver import Driver
from localgen.generation.model_backend import ModelBackend


class Sessions:
    """Saves and loads the sessions of one model; see ``LocalModel.save_session``."""

    def __init__(self, backend: ModelBackend, driver: Driver, config: ModelConfig) -> None:
        self._backend = backend
        self._driver = driver
        self._config = config

    def save(self, path: Path) -> int:
        """Write everything that is cached to a file; return how many sequences that is."""
        self._check()
        with self._kv_cache() as kv_cache:
            saved = kv_cache.save()
        session_file.write(path, self._backend.state_identity, saved)
        return len(saved)

    def load(self, path: Path) -> int:
        """Cache what a file holds; return how many sequences of it."""
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
        """Raise StateError unless what this model computes can be kept in a file."""
        self._backend.check_usable()
        obstacle = self._backend.not_saved_because
        if self._config.deterministic:
            obstacle = "with deterministic=True no computed state is used again"
        if obstacle:
            raise StateError(f"this model cannot have sessions: {obstacle}")

    @contextmanager
    def _kv_cache(self) -> Iterator[KvCache]:
        """The KV cache between two steps; an error inside leaves nothing half done."""
        with self._driver.alone() as (engine, _):
            self._backend.check_usable()
            try:
                yield engine.kv_cache
            except StateError:
                raise
            except BaseException:
                engine.restart()
                raise
