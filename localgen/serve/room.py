"""Whether a model's weights fit beside those of the models that are loaded."""

from __future__ import annotations

import platform

from localgen._util import system
from localgen.errors import NotEnoughMemoryError
from localgen.serve.served_model import ServedModel

# Linux reports the pages of a mapped file as available, however much they are in use; other systems
# report them as used.
COUNTS_MAPPED_PAGES = platform.system() == "Linux"


def check_room(wanted: ServedModel, n_bytes_loaded: int) -> None:
    """Raise NotEnoughMemoryError if a model's file does not fit what loaded models leave.

    n_bytes_loaded: of the files of the models that are loaded. It is beside the check that loading
    makes, which does not know of them.
    """
    available = system.available_memory()
    if not COUNTS_MAPPED_PAGES or not n_bytes_loaded or available is None:
        return
    left = max(0, available - n_bytes_loaded)
    if wanted.n_bytes > left:
        raise NotEnoughMemoryError(
            f"the weights of {wanted.name} do not fit beside those that are loaded",
            wanted.n_bytes,
            left,
        )
