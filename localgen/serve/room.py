"""Whether a model fits the memory beside those that are loaded, or would if some were not."""

from __future__ import annotations

import platform

from localgen._util import system
from localgen.errors import NotEnoughMemoryError
from localgen.serve.served_model import ServedModel

# Linux reports the pages of a mapped file as available, however much they are in use; other systems
# report them as used.
COUNTS_MAPPED_PAGES = platform.system() == "Linux"


class Room:
    """The memory that the models of a server share."""

    def __init__(self) -> None:
        self._without_models: int | None = None

    def check(self, wanted: ServedModel, n_bytes_loaded: int) -> None:
        """Raise NotEnoughMemoryError if a model's file does not fit what loaded models leave.

        n_bytes_loaded: of the files of the models that are loaded. It is beside the check that
        loading makes, which does not know of them.
        """
        available = system.available_memory()
        if not n_bytes_loaded:
            self._without_models = available
        if not COUNTS_MAPPED_PAGES or not n_bytes_loaded or available is None:
            return
        left = max(0, available - n_bytes_loaded)
        if wanted.n_bytes > left:
            raise NotEnoughMemoryError(
                f"the weights of {wanted.name} do not fit beside those that are loaded",
                wanted.n_bytes,
                left,
            )

    def most_for(self, error: NotEnoughMemoryError, n_bytes_in_use: int) -> int | None:
        """Return the memory that a model would find if all others were unloaded but those in use;
        None if that is unknown.

        error: why it does not fit now. n_bytes_in_use: of the files of the models in use.
        """
        if error.is_of_gpu or self._without_models is None:
            return None
        return max(error.available, self._without_models - n_bytes_in_use)
