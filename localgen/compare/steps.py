"""The measurements of a comparison, in their order."""

from __future__ import annotations

from collections.abc import Sequence

from localgen._util.home import expand_user
from localgen.compare.chats import measure_chats
from localgen.compare.divergence import GreedyText
from localgen.compare.levels import Level, Variant
from localgen.compare.making import variants_of
from localgen.compare.pack_use import packed_reference
from localgen.compare.preparation import Preparation
from localgen.compare.quality import Quality
from localgen.compare.rounds import measure_speed
from localgen.compare.task_run import measure_tasks
from localgen.compare.texts import greedy_texts, measure_texts


def measure(prepared: Preparation, levels: Sequence[Level]) -> None:
    """Measure these levels, as far as ``prepared.options`` ask for it."""
    options, settings, record = prepared.options, prepared.settings, prepared.record
    pack = settings.reference_pack
    reference = _reference(prepared, levels) if pack is None else packed_reference(pack, record)
    _note_origin(prepared, levels, reference)
    variants = variants_of(settings, levels)
    others = [each for each in variants if not record[each].is_reference]
    if options.quality:
        _measure_quality(prepared, reference, others)
    if settings.chats is not None:
        remaining = record.without_failed(others)
        measure_chats(settings, record, reference, remaining, prepared.prompts)
    if settings.tasks:
        measure_tasks(settings, record, reference, record.without_failed(others))
    if options.speed:
        first = reference if pack is None else variants[0]
        measure_speed(settings, record, first, record.without_failed(variants))


def _reference(prepared: Preparation, levels: Sequence[Level]) -> Variant:
    """Choose the level with the most bits per weight as the reference."""
    settings, record = prepared.settings, prepared.record
    first = [Variant(level, settings.kv_types[0], settings.devices[0]) for level in levels]
    reference = max(first, key=lambda variant: record[variant].bits_per_weight or 0.0)
    record.set_reference(reference)
    return reference


def _note_origin(prepared: Preparation, levels: Sequence[Level], reference: Variant) -> None:
    """Note what levels are made from, and the reference: two files that are easily confused."""
    if not any(level.made for level in levels):
        return
    note = f"levels are made from {prepared.settings.source.name}"
    if prepared.options.quality and prepared.settings.reference_pack is None:
        note += f"; loss is measured against {reference.label}, the most precise level given"
    prepared.record.note(note)


def _measure_quality(prepared: Preparation, reference: Variant, others: Sequence[Variant]) -> None:
    """Measure the loss of the others, save a pack if one is wanted, and compare greedy texts."""
    settings, record = prepared.settings, prepared.record
    measured = Quality(settings, record, reference)
    pack, target = settings.reference_pack, prepared.options.save_reference_pack
    expected: Sequence[GreedyText] = () if pack is None else pack.about.texts
    if target is not None:
        record.begin(f"texts of {reference.label}")
        expected = greedy_texts(reference, settings.n_threads)
        measured.save_pack(expand_user(target), expected)
    measured.measure(record.without_failed(others))
    measure_texts(settings, record, reference, record.without_failed(others), expected)
