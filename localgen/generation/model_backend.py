"""What a loaded model offers beside its forward passes: the seam between calls and llama.cpp."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from localgen.engine.backend import Backend
from localgen.engine.pass_costs import PassCosts
from localgen.generation.model_facts import Weight
from localgen.text.vocab import Vocab

Result = TypeVar("Result")


class ModelBackend(Backend, Protocol):
    """A model that ``LocalModel`` can use; see ``llama.backend.LlamaBackend``."""

    @property
    def path(self) -> Path:
        """The model's file; of several shards the first."""

    @property
    def vocab(self) -> Vocab:
        """Its vocabulary, which any thread may use at any time."""

    @property
    def sizes(self) -> dict[str, int | str]:
        """Its architecture and sizes, by transformers' names; see ``model_facts.LoadedConfig``."""

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The tensors of its file."""

    @property
    def sampling_defaults(self) -> dict[str, Any]:
        """The sampling options that the model's file asks for."""

    @property
    def pass_costs(self) -> PassCosts:
        """What its passes take, as far as calls with drafts have measured it."""

    @property
    def idle_cpus(self) -> int:
        """CPUs that this process may use and a pass does not."""

    @property
    def is_forked(self) -> bool:
        """Whether this process is a fork of the one that loaded the model."""

    def check_usable(self) -> None:
        """Raise ClosedError or BackendError unless this process may run the model now."""

    def close(self) -> None:
        """Free the model; calling it again does nothing."""

    def with_own_context(self, max_sequences: int) -> ModelBackend:
        """Return a backend with the same weights and a KV cache of its own, which is lost when
        either is closed."""

    def run(self, call: Callable[[], Result]) -> Result:
        """Return the result of a call during which ``close`` waits; ClosedError once closed."""

    def leave(self) -> None:
        """Free nothing, now or when Python ends: a thread is still inside llama.cpp."""

    @property
    def not_saved_because(self) -> str | None:
        """Why the state of a sequence cannot be kept in a file; None if it can."""

    @property
    def state_identity(self) -> dict[str, str]:
        """What must be the same, by name, for the bytes of ``kv_state`` to mean the same."""
