"""The options of ``imatrix()``, each declared once; it reads no file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, MISSING, dataclass
from typing import TypeAlias

from localgen._util.checks import check_bool
from localgen._util.option_fields import (
    FilePath,
    as_given,
    check_callable,
    check_fields,
    check_path,
    integer,
    option,
    option_of,
    optional,
)
from localgen.config import ModelConfig
from localgen.llama.input_sums import LEAST_ROWS
from localgen.quantization.calibration import TextLike

Progress: TypeAlias = Callable[[int, int, str], object]


@dataclass(frozen=True, slots=True)
class ImatrixOptions:
    """The arguments of ``imatrix()``, which documents them. Raises ValueError for a wrong one."""

    source: FilePath = option(MISSING, check_path)
    texts: TextLike | Sequence[TextLike] | None = option(None, as_given)  # read by the calibration
    _: KW_ONLY
    output: FilePath = option(MISSING, check_path)
    n_ctx: int = option(
        512, integer(LEAST_ROWS, 2**20), help="Cut the text into chunks of this many tokens."
    )
    n_chunks: int | None = option(
        None,
        optional(integer(1)),
        help="Use the first N chunks only.",
        metavar="N",
        shown="all",
    )
    process_output: bool = option(False, check_bool, help="Include the output matrix.")
    resume: bool = option(
        False, check_bool, help="Continue what an interrupted run wrote to --output."
    )
    overwrite: bool = option(False, check_bool, help="Replace the matrix in --output.")
    n_threads: int | None = option_of(ModelConfig, "n_threads")
    device: str = option_of(ModelConfig, "device")
    n_gpu_layers: int | None = option_of(ModelConfig, "n_gpu_layers")
    flash_attention: str = option_of(ModelConfig, "flash_attention")
    check_memory: bool = option_of(ModelConfig, "check_memory")
    progress: Progress | None = option(None, optional(check_callable))

    def __post_init__(self) -> None:
        check_fields(self)

    def loading(self, n_batch: int) -> ModelConfig:
        """Return how the model is loaded, with passes of ``n_batch`` tokens. Raises ValueError."""
        return ModelConfig(
            n_ctx=self.n_ctx,
            n_batch=n_batch,
            max_sequences=1,
            n_threads=self.n_threads,
            device=self.device,
            n_gpu_layers=self.n_gpu_layers,
            flash_attention=self.flash_attention,
            check_memory=self.check_memory,
        )
