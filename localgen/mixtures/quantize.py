"""quantize(): model files at levels of llama.cpp's, or as mixtures of types for a target."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import overload

from localgen import hub
from localgen._util.checks import check_int
from localgen._util.home import expand_user
from localgen._util.system import usable_cpus
from localgen.compare.settings import default_text
from localgen.errors import QuantizeError
from localgen.gguf import gate
from localgen.gguf.fingerprint import fingerprint
from localgen.gguf.imatrix_file import read_imatrix
from localgen.mixtures.loss_file import LossFile
from localgen.mixtures.meter import Meter, stored_predictions, text_parts
from localgen.mixtures.mixer import Mixer
from localgen.mixtures.search import QuantizedMixture, Search, check_size
from localgen.mixtures.target import Target, target_of
from localgen.quantization.calibration import default_text as default_calibration_text
from localgen.quantization.calibration import sha256_of
from localgen.quantization.imatrix_check import check_imatrix
from localgen.quantization.imatrix_result import is_made_from
from localgen.quantization.options import AUTO, QuantizeOptions
from localgen.quantization.process import Progress, QuantizerProcess
from localgen.quantization.quantize import (
    check_disk,
    check_source,
    imatrix_file,
    make_folder,
    target_paths,
    write_levels,
)
from localgen.quantization.runner import QuantizedFile, enter_work_folder

_N_CTX, _N_CHUNKS = 512, 4


@overload
def quantize(
    source: str | os.PathLike[str],
    levels: str,
    *,
    output: str | os.PathLike[str] = ...,
    imatrix: str | os.PathLike[str] | None = ...,
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
    source: str | os.PathLike[str],
    levels: list[str] | tuple[str, ...],
    *,
    output: str | os.PathLike[str] = ...,
    imatrix: str | os.PathLike[str] | None = ...,
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
    source: str | os.PathLike[str],
    levels: None = None,
    *,
    target_size: int | str | None = ...,
    target_kld: float | None = ...,
    text: str | None = ...,
    n_ctx: int = ...,
    n_chunks: int = ...,
    losses: str | os.PathLike[str] | None = ...,
    output: str | os.PathLike[str] = ...,
    imatrix: str | os.PathLike[str] | None = ...,
    keep_split: bool = ...,
    allow_requantize: bool = ...,
    n_threads: int | None = ...,
    progress: Progress | None = ...,
) -> QuantizedMixture: ...


def quantize(
    source: str | os.PathLike[str],
    levels: str | list[str] | tuple[str, ...] | None = None,
    *,
    target_size: int | str | None = None,
    target_kld: float | None = None,
    text: str | None = None,
    n_ctx: int | None = None,
    n_chunks: int | None = None,
    losses: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] = ".",
    imatrix: str | os.PathLike[str] | None = None,
    pure: bool = False,
    tensor_types: Mapping[str, str] | None = None,
    token_embedding_type: str | None = None,
    output_tensor_type: str | None = None,
    keep_split: bool = False,
    allow_requantize: bool = False,
    n_threads: int | None = None,
    progress: Progress | None = None,
) -> QuantizedFile | list[QuantizedFile] | QuantizedMixture:
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
    options = QuantizeOptions(
        output=output,
        imatrix=imatrix,
        pure=pure,
        tensor_types=tensor_types,
        token_embedding_type=token_embedding_type,
        output_tensor_type=output_tensor_type,
        keep_split=keep_split,
        allow_requantize=allow_requantize,
        n_threads=n_threads,
    )
    of_targets = {
        "target_size": target_size, "target_kld": target_kld, "text": text, "n_ctx": n_ctx,
        "n_chunks": n_chunks, "losses": losses,
    }  # fmt: skip
    if levels is not None:
        _refuse(of_targets, "levels, which are llama.cpp's own mixtures")
        names = [levels] if isinstance(levels, str) else list(levels)
        done = write_levels(source, names, options, progress)
        return done[0] if isinstance(levels, str) else done
    if target_size is None and target_kld is None:
        raise ValueError("give levels, such as 'Q4_K_M', or target_size or target_kld")
    of_levels = {
        "pure": pure or None, "tensor_types": tensor_types,
        "token_embedding_type": token_embedding_type, "output_tensor_type": output_tensor_type,
    }  # fmt: skip
    _refuse(of_levels, "a target, which chooses the type of each tensor")
    n_ctx = check_int("n_ctx", _N_CTX if n_ctx is None else n_ctx, 8, 2**20)
    n_chunks = check_int("n_chunks", _N_CHUNKS if n_chunks is None else n_chunks, 1, 2**20)
    target = target_of(target_size, target_kld)
    text = default_text() if text is None else text
    kept = None if losses is None else expand_user(losses)
    return _write_mixture(source, target, text, n_ctx, n_chunks, kept, options, progress)


def _refuse(options: Mapping[str, object], what: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ValueError(f"{', '.join(given)} cannot be used with {what}. Leave one out.")


def _write_mixture(
    source: str | os.PathLike[str],
    target: Target,
    text: str,
    n_ctx: int,
    n_chunks: int,
    losses: Path | None,
    options: QuantizeOptions,
    progress: Progress | None,
) -> QuantizedMixture:
    path = hub.resolve(source)
    file = gate.check_model(path)
    check_source(file, options, target.option)
    folder = expand_user(options.output)
    targets = target_paths(file, folder, target.label, options)
    _check_text(options.imatrix, text)
    parts = text_parts(path, text, n_ctx, n_chunks)
    n_threads = usable_cpus() if options.n_threads is None else options.n_threads
    with ExitStack() as stack:
        process = stack.enter_context(QuantizerProcess())
        if options.imatrix == AUTO:  # which takes minutes: first, whether there is any point
            names = {tensor.name for shard in file.shards for tensor in shard.tensors}
            check_size(Mixer(process, file, options, None, names), target)
        imatrix = imatrix_file(path, folder, options, progress)
        if imatrix is not None:
            check_imatrix(imatrix, file)
        with_data = read_imatrix(imatrix) if imatrix is not None else ()
        mixer = Mixer(process, file, options, imatrix, with_data)
        check_size(mixer, target)
        origin = {
            "model": fingerprint(*file.paths),
            "text": sha256_of(text),
            "n_ctx": n_ctx,
            "n_chunks": n_chunks,
            "imatrix": None if imatrix is None else fingerprint(imatrix),
            "groups": [[group.name, list(group.ladder)] for group in mixer.groups],
        }
        known = LossFile(losses, origin)
        make_folder(folder)
        n_predictions = stored_predictions(n_ctx, n_chunks, len(file.shards[0].tokens))
        check_disk(folder, 2 * sum(shard.size for shard in file.shards) + n_predictions)
        search = Search(mixer, target, known, enter_work_folder(stack, folder), progress)
        return search.find(lambda work: Meter(file, work, parts, n_threads), targets)


def _check_text(imatrix: str | os.PathLike[str] | None, text: str) -> None:
    """Refuse to measure on the text that the importance matrix is made from."""
    if imatrix is None:
        return
    if imatrix == AUTO:
        is_same = default_calibration_text().sha256 == sha256_of(text)
    else:
        is_same = is_made_from(expand_user(imatrix), text)
    if is_same:
        raise QuantizeError(
            "the importance matrix is made from the text that the loss is measured on, so types "
            "that use it would look better than they are. Use another text."
        )
