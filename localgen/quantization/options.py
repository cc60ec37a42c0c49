"""How model files are written, whatever their level: each option once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from localgen._util.checks import check_bool
from localgen._util.option_fields import (
    FilePath,
    FlagForm,
    as_given,
    check_fields,
    check_path,
    check_str,
    option,
    option_of,
    optional,
)
from localgen.config import ModelConfig

# As the file of an importance matrix: make one.
AUTO = "auto"

_TYPE = optional(check_str)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeOptions:
    """The options of every file that ``localgen.quantize``, which documents them, writes."""

    output: FilePath = option(
        ".", check_path, help="Write the files to DIR.", names=("-o", "--output"), metavar="DIR"
    )
    imatrix: FilePath | None = option(
        None,
        optional(check_path),
        help="Use this importance matrix; auto makes one in --output first.",
        metavar="FILE",
    )
    pure: bool = option(False, check_bool, help="Store every tensor in the level's own type.")
    tensor_types: Mapping[str, str] | None = option(  # ``type_overrides`` checks it
        None,
        as_given,
        help="Store tensors whose names have PATTERN as TYPE, such as ffn_down=Q6_K; can be "
        "repeated, the first wins.",
        flag=FlagForm.PAIRS,
        metavar="PATTERN=TYPE",
    )
    token_embedding_type: str | None = option(
        None, _TYPE, help="Store the token embeddings as TYPE.", metavar="TYPE"
    )
    output_tensor_type: str | None = option(
        None, _TYPE, help="Store the output matrix as TYPE.", metavar="TYPE"
    )
    keep_split: bool = option(False, check_bool, help="Write as many shards as SRC has.")
    allow_requantize: bool = option(
        False, check_bool, help="Accept a source that is quantized already."
    )
    n_threads: int | None = option_of(ModelConfig, "n_threads")

    def __post_init__(self) -> None:
        check_fields(self)
