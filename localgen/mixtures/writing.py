"""Finds and writes the mixture of types for a target."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from localgen import hub
from localgen._util.atomic_write import check_folder, make_folder
from localgen._util.home import expand_user
from localgen._util.option_fields import FilePath
from localgen._util.system import usable_cpus
from localgen.compare.settings import default_text
from localgen.errors import QuantizeError
from localgen.gguf import gate
from localgen.gguf.fingerprint import fingerprint
from localgen.gguf.gate import ModelFile
from localgen.gguf.imatrix_file import read_imatrix
from localgen.mixtures.loss_file import LossFile
from localgen.mixtures.meter import Meter, stored_predictions, text_parts
from localgen.mixtures.mixer import Mixer
from localgen.mixtures.options import N_CHUNKS, N_CTX, QuantizeArguments
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
    target_paths,
)
from localgen.quantization.runner import enter_work_folder


def write_mixture(options: QuantizeArguments) -> QuantizedMixture:
    """Write the mixture for the target of ``options``. Raises as ``quantize``."""
    target = target_of(options.target_size, options.target_kld)
    text = default_text() if options.text is None else options.text
    n_ctx, n_chunks = options.n_ctx or N_CTX, options.n_chunks or N_CHUNKS
    path = hub.resolve(options.source)
    file = gate.check_model(path)
    check_source(file, options, target.option)
    folder = expand_user(options.output)
    targets = target_paths(file, folder, target.label, options)
    check_folder(folder)
    _check_text(options.imatrix, text)
    parts = text_parts(path, text, n_ctx, n_chunks)
    n_threads = usable_cpus() if options.n_threads is None else options.n_threads
    with ExitStack() as stack:
        process = stack.enter_context(QuantizerProcess())
        imatrix, mixer = _mixer(process, file, target, options.of_files, options.progress)
        measured_on = {"text": sha256_of(text), "n_ctx": n_ctx, "n_chunks": n_chunks}
        known = _loss_file(options.losses, file, measured_on, imatrix, mixer)
        make_folder(folder)
        n_predictions = stored_predictions(n_ctx, n_chunks, len(file.shards[0].tokens))
        check_disk(folder, 2 * sum(shard.size for shard in file.shards) + n_predictions)
        work = enter_work_folder(stack, folder)
        search = Search(mixer, target, known, work, options.progress)
        return search.find(lambda work: Meter(file, work, parts, n_threads), targets)


def _mixer(
    process: QuantizerProcess,
    file: ModelFile,
    target: Target,
    options: QuantizeOptions,
    progress: Progress | None,
) -> tuple[Path | None, Mixer]:
    """Return the file of the importance matrix, made first if it is to be, and the mixer."""
    if options.imatrix == AUTO:  # which takes minutes: first, whether there is any point
        names = {tensor.name for shard in file.shards for tensor in shard.tensors}
        check_size(Mixer(process, file, options, None, names), target)
    imatrix = imatrix_file(file.path, expand_user(options.output), options, progress)
    if imatrix is not None:
        check_imatrix(imatrix, file)
    with_data = read_imatrix(imatrix) if imatrix is not None else ()
    mixer = Mixer(process, file, options, imatrix, with_data)
    check_size(mixer, target)
    return imatrix, mixer


def _loss_file(
    path: FilePath | None,
    file: ModelFile,
    measured_on: dict[str, Any],
    imatrix: Path | None,
    mixer: Mixer,
) -> LossFile:
    """Return the losses that are known of this model, text and matrix."""
    origin = {
        "model": fingerprint(*file.paths),
        **measured_on,
        "imatrix": None if imatrix is None else fingerprint(imatrix),
        "groups": [[group.name, list(group.ladder)] for group in mixer.groups],
    }
    return LossFile(None if path is None else expand_user(path), origin)


def _check_text(imatrix: FilePath | None, text: str) -> None:
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
