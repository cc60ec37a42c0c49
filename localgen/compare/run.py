"""compare(): makes levels, chooses a reference, and measures each level."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from localgen import hub
from localgen._util import system
from localgen._util.checks import check_choice, check_int
from localgen._util.home import expand_user
from localgen._util.warn import warn
from localgen._util.work_folder import work_folder
from localgen.compare.chat_file import read_chats
from localgen.compare.chats import Prompts, chat_prompts, measure_chats
from localgen.compare.checks import (
    check_depths,
    check_imatrix,
    check_packs,
    energy_counters,
    results_file,
)
from localgen.compare.command import command_line
from localgen.compare.compute_device import FORMS, ComputeDevice
from localgen.compare.divergence import GreedyText
from localgen.compare.levels import Level, Variant, check_names, levels_of
from localgen.compare.pack_use import checked_pack, packed_reference
from localgen.compare.quality import Quality
from localgen.compare.record import Progress, Record
from localgen.compare.results import Comparison
from localgen.compare.rounds import measure_speed
from localgen.compare.settings import Settings, default_text
from localgen.compare.task_checks import checked
from localgen.compare.task_run import measure_tasks
from localgen.compare.task_sources import find_tasks
from localgen.compare.texts import greedy_texts, measure_texts
from localgen.config import KV_TYPES
from localgen.errors import CompareError, GenerationInterrupted, LocalgenError
from localgen.gguf import gate
from localgen.quantization.options import AUTO
from localgen.quantization.quantize import auto_imatrix

_N_CTX, _N_CHUNKS = 512, 16


def compare(
    source: str | os.PathLike[str],
    levels: Sequence[str | os.PathLike[str]] = (),
    *,
    text: str | None = None,
    n_ctx: int | None = None,
    n_chunks: int | None = None,
    kv_types: Sequence[str] = ("f16",),
    speed: bool = True,
    quality: bool = True,
    n_rounds: int = 3,
    n_threads: int | None = None,
    imatrix: str | os.PathLike[str] | None = None,
    tasks: Sequence[str | os.PathLike[str]] = (),
    devices: Sequence[str] = ("auto",),
    chats: str | os.PathLike[str] | None = None,
    depths: Sequence[int] = (),
    energy: bool = False,
    task_limit: int | None = None,
    include_path: str | os.PathLike[str] | None = None,
    reference_pack: str | os.PathLike[str] | None = None,
    save_reference_pack: str | os.PathLike[str] | None = None,
    keep: str | os.PathLike[str] | None = None,
    results: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Comparison:
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
    save_reference_pack: a file for the reference's predictions. reference_pack: such a file, in
    place of the reference, which need not be there: it has the text, ``n_ctx`` and ``n_chunks``;
    without ``levels``, ``source`` is the level. keep: a folder for the files that are made; without
    it they are removed. results: a file that is rewritten after each result. If it exists,
    ``resume`` keeps its results, which are not measured again, and ``overwrite`` discards them.
    progress: called with (steps done, all steps, what is next).

    A level that fails gets an ``error``, and the others continue. Raises ValueError for a wrong
    level or setting, CompareError if the text is too short or the importance matrix was made from
    it, or the reference pack is for another tokenizer or text, or a chat is no prompt, or
    ``results`` exists without ``resume`` or ``overwrite``, or has other settings, or cannot be
    written in the end; BackendError for a device that
    this build lacks, and for energy where the system does not report it; on Ctrl-C
    GenerationInterrupted. ``partial`` of the last two is the Comparison so far.
    """
    check_int("n_ctx", _N_CTX if n_ctx is None else n_ctx, 8, 2**20)
    check_int("n_chunks", _N_CHUNKS if n_chunks is None else n_chunks, 1)
    check_int("n_rounds", n_rounds, 1)
    if n_threads is None:
        n_threads = system.usable_cpus()
    check_int("n_threads", n_threads, 1, 512)
    for kv_type in kv_types:
        check_choice("kv_types", kv_type, KV_TYPES)
    check_packs(reference_pack, save_reference_pack, quality=quality, tasks=tasks, chats=chats)
    levels = levels or ([] if reference_pack is None else [source])
    check_names("levels", levels, "a quantization level, a file or a name on the Hub")
    check_names("kv_types", kv_types, "a type of KV cache")
    check_names("devices", devices, FORMS)
    where = tuple(map(ComputeDevice.of, devices))
    check_names("devices", list(map(str, where)), FORMS)  # cuda:020 is cuda:20
    path_of_results = results_file(results, resume=resume, overwrite=overwrite)
    asked = find_tasks(tasks, limit=task_limit, include_path=include_path)
    conversations = None if chats is None else read_chats(chats)
    if not (speed or quality or asked or conversations):
        raise ValueError(
            "nothing to measure: speed and quality are off, and there are no tasks and no chats"
        )
    counters = energy_counters(energy=energy, speed=speed)
    path = hub.resolve(source)
    pack = checked_pack(reference_pack, path, text=text, n_ctx=n_ctx, n_chunks=n_chunks)
    n_ctx = pack.about.n_ctx if pack else n_ctx or _N_CTX
    n_chunks = pack.about.n_chunks if pack else n_chunks or _N_CHUNKS
    command = command_line(
        source,
        levels,
        own_text=text is not None and pack is None,
        n_ctx=n_ctx,
        n_chunks=n_chunks,
        kv_types=kv_types,
        speed=speed,
        quality=quality,
        n_rounds=n_rounds,
        n_threads=n_threads,
        imatrix=imatrix,
        tasks=tasks,
        devices=devices,
        chats=chats,
        depths=depths,
        energy=energy,
        task_limit=task_limit,
        include_path=include_path,
        reference_pack=reference_pack,
    )
    asked, remarks = checked(asked, path)
    for remark in remarks:
        warn(remark)
    settings = Settings(
        source=path,
        command=command,
        text=default_text() if text is None else text,
        n_ctx=n_ctx,
        n_chunks=n_chunks,
        kv_types=tuple(kv_types),
        n_threads=n_threads,
        n_rounds=n_rounds,
        devices=where,
        chats=conversations,
        depths=tuple(depths),
        energy=counters,
        tasks=asked,
        task_limit=task_limit,
        reference_pack=pack,
    )
    check_depths(settings, speed=speed)
    check_imatrix(imatrix, settings.text_sha256)
    wanted = levels_of(levels)
    record = Record(settings, path_of_results, progress)
    if resume:
        record.resume()
    prompts = chat_prompts(settings.source, conversations) if conversations else []
    for remark in remarks:
        record.note(remark)
    try:
        with ExitStack() as stack:
            folder = Path(keep) if keep is not None else _temporary(stack)
            _make(settings, record, wanted, folder, imatrix)
            _measure(
                settings, record, wanted, prompts, save_reference_pack, quality=quality, speed=speed
            )
    except KeyboardInterrupt:
        interrupted = GenerationInterrupted("the comparison was interrupted")
        interrupted.partial = record.comparison
        raise interrupted from None
    return _saved(record, results)


def _saved(record: Record, results: str | os.PathLike[str] | None) -> Comparison:
    """Return the comparison, saved once more: notes may have come after the last result."""
    try:
        record.save(is_last=True)
    except OSError as error:
        unsaved = CompareError(f"{results} cannot be written: {error.strerror}")
        unsaved.partial = record.comparison
        raise unsaved from error
    return record.comparison


def _measure(
    settings: Settings,
    record: Record,
    levels: Sequence[Level],
    prompts: Prompts,
    save_reference_pack: str | os.PathLike[str] | None,
    *,
    quality: bool,
    speed: bool,
) -> None:
    usable = _usable(settings, record, levels)
    pack = settings.reference_pack
    if pack is None:
        reference = _reference(settings, record, usable)
    else:
        reference = packed_reference(pack, record)
    _note_origin(settings, record, usable, reference if quality and pack is None else None)
    variants = _variants(settings, usable)
    if quality:
        others = [each for each in variants if not record[each].is_reference]
        measured = Quality(settings, record, reference)
        expected: Sequence[GreedyText] = () if pack is None else pack.about.texts
        if save_reference_pack is not None:
            record.begin(f"texts of {reference.label}")
            expected = greedy_texts(reference, settings.n_threads)
            measured.save_pack(expand_user(save_reference_pack), expected)
        measured.measure(record.without_failed(others))
        measure_texts(settings, record, reference, record.without_failed(others), expected)
    if settings.chats is not None:
        others = [each for each in variants if not record[each].is_reference]
        measure_chats(settings, record, reference, record.without_failed(others), prompts)
    if settings.tasks:
        others = [each for each in variants if not record[each].is_reference]
        measure_tasks(settings, record, reference, record.without_failed(others))
    if speed:
        others = record.without_failed(variants)
        measure_speed(settings, record, reference if pack is None else variants[0], others)


def _temporary(stack: ExitStack) -> Path:
    return stack.enter_context(work_folder(Path(tempfile.gettempdir())))


def _variants(settings: Settings, levels: Sequence[Level]) -> list[Variant]:
    """Return each level with each type of KV cache on each device."""
    return [
        Variant(level, kv_type, device)
        for level in levels
        for kv_type in settings.kv_types
        for device in settings.devices
    ]


def _make(
    settings: Settings,
    record: Record,
    levels: Sequence[Level],
    folder: Path,
    imatrix: str | os.PathLike[str] | None,
) -> None:
    """Make and check each level's file; a level that fails gets an error."""
    record.folders |= {folder, *(level.path.parent for level in levels if level.path is not None)}
    if imatrix == AUTO and any(level.path is None for level in levels):
        record.begin("making an importance matrix")
        imatrix = auto_imatrix(settings.source, folder, n_threads=settings.n_threads, progress=None)
    for level in levels:
        try:
            if level.path is None:
                record.begin(f"making {level.name}")
                level.make(settings.source, folder, imatrix=imatrix, n_threads=settings.n_threads)
            level.check()
        except LocalgenError as error:
            level.error = record.message(error)
        for variant in _variants(settings, [level]):
            record.describe(variant)
    record.save()


def _usable(settings: Settings, record: Record, levels: Sequence[Level]) -> list[Level]:
    """Return the levels that can be measured; one with another vocabulary gets an error."""
    source = gate.check_model(settings.source).shards[0].tokens
    for level in levels:
        if level.file is not None and level.file.shards[0].tokens != source:
            level.error = (
                f"its vocabulary differs from that of {settings.source.name}, so they cannot be "
                f"compared token by token"
            )
            for variant in _variants(settings, [level]):
                record.set(variant, error=level.error)
    usable = [level for level in levels if level.error is None]
    if not usable:
        raise CompareError(
            "no level can be measured: "
            + "; ".join(f"{level.name}: {level.error}" for level in levels)
        )
    return usable


def _reference(settings: Settings, record: Record, usable: Sequence[Level]) -> Variant:
    """Choose the level with the most bits per weight as the reference."""
    first = [Variant(level, settings.kv_types[0], settings.devices[0]) for level in usable]
    reference = max(first, key=lambda variant: record[variant].bits_per_weight or 0.0)
    record.set_reference(reference)
    return reference


def _note_origin(
    settings: Settings, record: Record, usable: Sequence[Level], reference: Variant | None
) -> None:
    """Note what levels are made from, and the reference: two files that are easily confused."""
    if not any(level.made for level in usable):
        return
    note = f"levels are made from {settings.source.name}"
    if reference is not None:
        note += f"; loss is measured against {reference.label}, the most precise level given"
    record.note(note)
