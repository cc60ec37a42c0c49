"""Checks that a reference pack fits a comparison, and makes it the reference."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from localgen._util.home import expand_user
from localgen.compare.compute_device import AUTO_DEVICE
from localgen.compare.level_result import PACK
from localgen.compare.levels import Level, Variant
from localgen.compare.options import CompareOptions
from localgen.compare.record import Record
from localgen.compare.reference_pack import ReferencePack, tokenizer_sha256
from localgen.errors import CompareError
from localgen.gguf import gate
from localgen.quantization.calibration import sha256_of


def checked_pack(options: CompareOptions, model: Path) -> ReferencePack | None:
    """Return the pack of ``options``, None for none. Raises CompareError if it is for another
    tokenizer than the model's, or for another text or other chunks than those given."""
    if options.reference_pack is None:
        return None
    text, n_ctx, n_chunks = options.text, options.n_ctx, options.n_chunks
    pack = ReferencePack(expand_user(options.reference_pack))
    path, about = pack.path, pack.about
    file = gate.check_model(model)
    found = tokenizer_sha256(file)
    n_vocab = len(file.shards[0].tokens)
    if (about.tokenizer_sha256, about.n_vocab) != (found, n_vocab):
        raise CompareError(
            f"{path.name} was made with another tokenizer than that of {model.name}: "
            f"{about.n_vocab} tokens with SHA-256 {about.tokenizer_sha256[:16]}…, here "
            f"{n_vocab} with {found[:16]}…. Use a pack of the same model."
        )
    differing = [
        f"{name}={mine}, not {given}"
        for name, mine, given in (
            ("n_ctx", about.n_ctx, n_ctx),
            ("n_chunks", about.n_chunks, n_chunks),
        )
        if given is not None and given != mine
    ]
    if text is not None and sha256_of(text) != about.text_sha256:
        differing.append(
            f"a text with SHA-256 {about.text_sha256[:16]}…, not {sha256_of(text)[:16]}…"
        )
    if differing:
        raise CompareError(
            f"{path.name} was made with {' and '.join(differing)}. A pack has its text: leave "
            f"these out, or use a pack that was made with them."
        )
    for number in range(about.n_chunks):
        pack.rows(number)  # a corrupt chunk is found before anything is measured
    return pack


def packed_reference(pack: ReferencePack, record: Record) -> Variant:
    """Make the model that a pack was made from the reference of a comparison."""
    about = pack.about
    model = about.reference
    reference = Variant(Level(f"{model.name}{PACK}", None), model.kv_type, AUTO_DEVICE)
    known = dataclasses.asdict(model)
    del known["name"], known["kv_type"]
    record.describe(reference, **known)
    record.set_reference(reference)
    record.note(
        f"loss is measured against {pack.path.name}, which has the {about.n_top} most likely "
        f"tokens of {model.file or model.name} at each position, and a sample of {about.n_samples} "
        f"others"
    )
    return reference
