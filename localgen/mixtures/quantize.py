"""quantize(): model files at levels of llama.cpp's, or as mixtures of types for a target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import overload

from localgen._util.call_signature import takes
from localgen._util.option_fields import FilePath
from localgen.mixtures.options import QuantizeArguments
from localgen.mixtures.search import QuantizedMixture
from localgen.mixtures.writing import write_mixture
from localgen.quantization.process import Progress
from localgen.quantization.quantize import write_levels
from localgen.quantization.runner import QuantizedFile


@overload
def quantize(
    source: FilePath,
    levels: str,
    *,
    output: FilePath = ...,
    imatrix: FilePath | None = ...,
    pure: bool = ...,
    tensor_types: Mapping[str, str] | None = ...,
    token_embedding_type: str | None = ...,
    output_tensor_type: str | None = ...,
    keep_split: bool = ...,
    allow_requantize: bool = ...,
    n_threads: int | None = ...,
    progress: Progress | None = ...,
) -> QuantizedFile: ...


@overload
def quantize(
    source: FilePath,
    levels: list[str] | tuple[str, ...],
    *,
    output: FilePath = ...,
    imatrix: FilePath | None = ...,
    pure: bool = ...,
    tensor_types: Mapping[str, str] | None = ...,
    token_embedding_type: str | None = ...,
    output_tensor_type: str | None = ...,
    keep_split: bool = ...,
    allow_requantize: bool = ...,
    n_threads: int | None = ...,
    progress: Progress | None = ...,
) -> list[QuantizedFile]: ...


@overload
def quantize(
    source: FilePath,
    levels: None = None,
    *,
    target_size: int | str | None = ...,
    target_kld: float | None = ...,
    text: str | None = ...,
    n_ctx: int = ...,
    n_chunks: int = ...,
    losses: FilePath | None = ...,
    output: FilePath = ...,
    imatrix: FilePath | None = ...,
    keep_split: bool = ...,
    allow_requantize: bool = ...,
    n_threads: int | None = ...,
    progress: Progress | None = ...,
) -> QuantizedMixture: ...


@takes(QuantizeArguments)
def quantize(options: QuantizeArguments) -> QuantizedFile | list[QuantizedFile] | QuantizedMixture:
    """Write a model at one or several quantization levels, or as a mixture of types for a target.

    source: as in ``LocalModel.from_pretrained``. levels: a name such as "Q4_K_M" returns one
    result, a list of names a list. output: the folder for NAME-LEVEL.gguf, created if missing; an
    existing file is replaced once the new one is complete. imatrix: the file of an importance
    matrix, which the smallest levels need; "auto" makes NAME.imatrix.gguf in ``output`` first, on
    the default text of ``imatrix()``, or resumes it. pure: give every tensor the level's own type.
    tensor_types: {regular expression: type}, such as {"ffn_down": "Q6_K"}, for tensors in whose
    names it is found; the first that is decides. token_embedding_type, output_tensor_type: types of
    these two. keep_split: write as many shards as the source has. allow_requantize: accept a source
    that is already quantized, whose loss remains. n_threads: defaults to all CPUs. progress: called
    with (tensor's number, number of tensors, tensor's name), and before with chunks of the text in
    their place.

    Without levels, target_size ("2.5GB", or bytes) or target_kld (in nats) asks for the mixture of
    types with the least loss of that size, or the smallest with that loss, and returns a
    QuantizedMixture. Groups of tensors are measured on ``n_chunks`` chunks (4) of ``n_ctx`` tokens
    (512) of ``text``, the result on as many that follow; by default on English prose that comes
    with CPython. losses: a JSON file for what was measured, from which a later call, such as for
    another target, takes what it needs. progress: called with (files measured, files to measure,
    what is next).

    Raises ValueError for an argument, ModelFileError for the source, and QuantizeError, as for a
    target that cannot be reached.
    """
    if options.levels is None:
        return write_mixture(options)
    names = [options.levels] if isinstance(options.levels, str) else options.levels
    done = write_levels(options.source, names, options.of_files, options.progress)
    return done[0] if isinstance(options.levels, str) else done
