"""How model files are written, whatever their level."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from localgen._util.checks import check_int

# As the file of an importance matrix: make one.
AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeOptions:
    """The options of ``localgen.quantize``, which documents them."""

    output: str | os.PathLike[str] = "."
    imatrix: str | os.PathLike[str] | None = None
    pure: bool = False
    tensor_types: Mapping[str, str] | None = None
    token_embedding_type: str | None = None
    output_tensor_type: str | None = None
    keep_split: bool = False
    allow_requantize: bool = False
    n_threads: int | None = None

    def __post_init__(self) -> None:
        if self.n_threads is not None:
            check_int("n_threads", self.n_threads, 1, 512)
