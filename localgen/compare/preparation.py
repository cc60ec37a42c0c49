"""What compare() finds out before it makes and measures levels: files, settings, prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from localgen import hub
from localgen._util import system
from localgen._util.atomic_write import check_folder
from localgen._util.home import expand_user
from localgen._util.option_fields import FilePath
from localgen._util.suggestions import check_file_or_name
from localgen._util.warn import warn
from localgen.compare.chat_file import read_chats
from localgen.compare.chats import Prompts, chat_prompts
from localgen.compare.checks import check_depths, check_imatrix, results_file
from localgen.compare.command import command_line
from localgen.compare.compute_device import FORMS, ComputeDevice
from localgen.compare.levels import Level, levels_of, sha256
from localgen.compare.options import N_CHUNKS, N_CTX, CompareOptions, check_names
from localgen.compare.pack_making import check_target
from localgen.compare.pack_use import checked_pack
from localgen.compare.record import Record
from localgen.compare.settings import Settings, default_text
from localgen.compare.task_checks import checked
from localgen.compare.task_sources import find_tasks
from localgen.quantization.options import AUTO


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """A comparison that is ready to begin. prompts: of the chats, as tokens."""

    options: CompareOptions
    settings: Settings
    record: Record
    levels: Sequence[Level]
    prompts: Prompts


def prepare(options: CompareOptions) -> Preparation:
    """Read and check what ``options`` name; nothing is measured. Raises as ``compare``."""
    devices = _devices(options.devices)
    may_exist = options.resume or options.overwrite
    if options.save_reference_pack is not None:
        check_target(expand_user(options.save_reference_pack), may_exist=may_exist)
    for given in (options.imatrix, options.chats):
        if given is not None:
            check_file_or_name(given, [AUTO])
    if options.keep is not None:
        check_folder(expand_user(options.keep))
    results = results_file(options.results, may_exist=may_exist)
    settings = _settings(options, devices)
    settings, remarks = _checked_tasks(settings)
    check_depths(settings)
    check_imatrix(options.imatrix, settings.text_sha256)
    settings = dataclasses.replace(settings, imatrix=_matrix(options.imatrix))
    levels = levels_of(options.levels)
    record = Record(settings, results, options.progress)
    if options.resume:
        record.resume()
    chats = settings.chats
    prompts = [] if chats is None else chat_prompts(settings.source, chats)
    for remark in remarks:
        record.note(remark)
    return Preparation(
        options=options, settings=settings, record=record, levels=levels, prompts=prompts
    )


def _devices(names: Sequence[str]) -> tuple[ComputeDevice, ...]:
    devices = tuple(map(ComputeDevice.of, names))
    check_names("devices", list(map(str, devices)), FORMS)  # cuda:020 is cuda:20
    return devices


def _settings(options: CompareOptions, devices: tuple[ComputeDevice, ...]) -> Settings:
    tasks = find_tasks(options.tasks, limit=options.task_limit, include_path=options.include_path)
    chats = None if options.chats is None else read_chats(options.chats)
    energy = system.energy_meter().names if options.energy else ()
    source = hub.resolve(options.source)
    pack = checked_pack(options, source)
    settings = Settings(
        source=source,
        command="",
        text=default_text() if options.text is None else options.text,
        n_ctx=pack.about.n_ctx if pack else options.n_ctx or N_CTX,
        n_chunks=pack.about.n_chunks if pack else options.n_chunks or N_CHUNKS,
        kv_types=tuple(options.kv_types),
        n_threads=options.n_threads or system.usable_cpus(),
        n_rounds=options.n_rounds,
        devices=devices,
        chats=chats,
        depths=tuple(options.depths),
        energy=energy,
        tasks=tasks,
        task_limit=options.task_limit,
        reference_pack=pack,
    )
    return dataclasses.replace(settings, command=command_line(options, settings))


def _matrix(imatrix: FilePath | None) -> str | None:
    """Return what is recorded of an importance matrix."""
    if imatrix is None:
        return None
    return AUTO if imatrix == AUTO else sha256(expand_user(imatrix))


def _checked_tasks(settings: Settings) -> tuple[Settings, list[str]]:
    """Return settings without questions that cannot be asked, and remarks, which are warned of."""
    tasks, remarks = checked(settings.tasks, settings.source)
    for remark in remarks:
        warn(remark)
    return dataclasses.replace(settings, tasks=tasks), remarks
