"""The arguments of quantize(): the options of every file, and those of a search for a target."""

from __future__ import annotations

from dataclasses import KW_ONLY, MISSING, dataclass, fields
from typing import Any

from localgen._util.option_fields import (
    FilePath,
    FlagForm,
    as_given,
    check_callable,
    check_fields,
    check_path,
    check_str,
    integer,
    option,
    optional,
)
from localgen.quantization.options import QuantizeOptions
from localgen.quantization.process import Progress

# Without n_ctx and n_chunks.
N_CTX, N_CHUNKS = 512, 4

_OF_TARGETS = ("target_size", "target_kld", "text", "n_ctx", "n_chunks", "losses")
_OF_LEVELS = ("pure", "tensor_types", "token_embedding_type", "output_tensor_type")


def _check_levels(_name: str, value: Any) -> str | list[str]:
    return value if isinstance(value, str) else list(value)


@dataclass(frozen=True, slots=True)
class QuantizeArguments(QuantizeOptions):
    """The arguments of ``quantize()``, which documents them.

    Raises ValueError for a wrong one, and for options of levels with a target or the reverse.
    """

    source: FilePath = option(MISSING, check_path)
    levels: str | list[str] | tuple[str, ...] | None = option(
        None,
        optional(_check_levels),
        help="Write this level, as Q4_K_M; can be repeated.",
        flag=list[str],
        names=("-t", "--type"),
        metavar="LEVEL",
    )
    _: KW_ONLY
    target_size: int | str | None = option(  # ``target_of`` checks it
        None,
        as_given,
        help="Write the mixture of types that loses least in this size.",
        flag=str,
        metavar="2.5GB",
    )
    target_kld: float | None = option(
        None,
        as_given,
        help="Write the smallest mixture of types with this mean KLD.",
        metavar="NATS",
    )
    text: str | None = option(
        None,
        optional(check_str),
        help="Measure a mixture's loss on this UTF-8 text.",
        flag=FlagForm.TEXT,
        metavar="FILE",
        shown="English prose that comes with Python",
    )
    n_ctx: int | None = option(
        None,
        optional(integer(8, 2**20)),
        help="Cut that text into chunks of this many tokens.",
        shown=str(N_CTX),
    )
    n_chunks: int | None = option(
        None,
        optional(integer(1, 2**20)),
        help="Use this many chunks to find a mixture, and as many to measure it.",
        shown=str(N_CHUNKS),
    )
    losses: FilePath | None = option(
        None,
        optional(check_path),
        help="Keep a mixture's measured losses in FILE, and use those it has.",
        metavar="FILE",
    )
    progress: Progress | None = option(None, optional(check_callable))

    def __post_init__(self) -> None:
        check_fields(self)
        if self.levels is not None:
            self._refuse(_OF_TARGETS, "levels (llama.cpp's own mixtures)")
        elif self.target_size is None and self.target_kld is None:
            raise ValueError("give levels, such as 'Q4_K_M', or target_size or target_kld")
        else:
            self._refuse(_OF_LEVELS, "a target (which chooses the type of each tensor)")

    @property
    def of_files(self) -> QuantizeOptions:
        """The options of every file alone."""
        names = [each.name for each in fields(QuantizeOptions)]
        return QuantizeOptions(**{name: getattr(self, name) for name in names})

    def _refuse(self, names: tuple[str, ...], what: str) -> None:
        given = [name for name in names if getattr(self, name) not in (None, False)]
        if given:
            raise ValueError(f"{', '.join(given)} cannot be used with {what}. Leave one out.")
