"""compare(): makes levels, chooses a reference, and measures each level."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from localgen._util.call_signature import takes
from localgen._util.home import expand_user
from localgen._util.work_folder import work_folder
from localgen.compare.making import make_levels, usable_levels
from localgen.compare.options import CompareOptions
from localgen.compare.preparation import Preparation, prepare
from localgen.compare.results import Comparison
from localgen.compare.steps import measure
from localgen.errors import CompareError, GenerationInterrupted


@takes(CompareOptions)
def compare(options: CompareOptions) -> Comparison:
    """Measure quantization levels of a model side by side.

    source: as in ``LocalModel.from_pretrained``. levels: the name of a type ("Q4_K_M") is made from
    ``source``; anything else is a file or a name on the Hub. The one with the most bits per weight
    is the reference. text: the text to measure quality on, ``n_chunks`` chunks of ``n_ctx`` tokens
    (16 of 512); by default English prose that comes with CPython (``pydoc_data.topics``). kv_types:
    KV cache types to try each level with; the reference has the first. speed, quality: what to
    measure. n_rounds: how often to measure speed, levels in turn. imatrix: the importance matrix to
    make levels with; "auto" makes it first, in the folder of the levels. tasks: what each level
    answers: files of questions, "demo" or names of lm-eval's tasks, of which ``include_path`` has
    more. task_limit: the most questions of each. devices: devices to try each level on, "auto",
    "cpu", "cuda" or "metal", or "cuda:20" for 20 layers on the GPU; the reference has the first.
    chats: a file of chats that each level answers at temperature 0, see ``chat_file``, or "auto"
    for a few that come with localgen. depths: numbers of tokens in the KV cache after which speed
    is measured, too. energy: whether to measure the joules per token with the speed.
    save_reference_pack: a file for the reference's predictions, replaced only with ``overwrite``.
    reference_pack: such a file, in place of the reference, which need not be there: it has the
    text, ``n_ctx`` and ``n_chunks``; without ``levels``, ``source`` is the level. keep: a folder
    for the files that are made; without it they are removed. results: a file that is rewritten
    after each result. If it exists, ``resume`` keeps its results, which are not measured again, and
    ``overwrite`` discards them.
    progress: called with (steps done, all steps, what is next).

    A level that fails gets an ``error``, and the others continue. Raises ValueError for a wrong
    level or setting, CompareError if the text is too short or the importance matrix was made from
    it, or the reference pack is for another tokenizer or text, or a chat is no prompt, or
    ``results`` exists without ``resume`` or ``overwrite``, or has other settings, or cannot be
    written in the end; BackendError for a device that this build lacks, and for energy where the
    system does not report it; on Ctrl-C GenerationInterrupted. ``partial`` of the last two is the
    Comparison so far.
    """
    prepared = prepare(options)
    record = prepared.record
    try:
        with ExitStack() as stack:
            make_levels(prepared, _folder(options, stack))
            measure(prepared, usable_levels(prepared))
    except KeyboardInterrupt:
        interrupted = GenerationInterrupted("the comparison was interrupted")
        interrupted.partial = record.comparison
        raise interrupted from None
    return _saved(prepared)


def _folder(options: CompareOptions, stack: ExitStack) -> Path:
    """Return the folder for the files that are made; without ``keep``, until the stack closes."""
    if options.keep is not None:
        return expand_user(options.keep)
    return stack.enter_context(work_folder(Path(tempfile.gettempdir())))


def _saved(prepared: Preparation) -> Comparison:
    """Return the comparison, saved once more: notes may have come after the last result."""
    record = prepared.record
    record.is_finished = True
    try:
        record.save(is_last=True)
    except OSError as error:
        results = prepared.options.results
        unsaved = CompareError(f"{results} cannot be written: {error.strerror}")
        unsaved.partial = record.comparison
        raise unsaved from error
    return record.comparison
