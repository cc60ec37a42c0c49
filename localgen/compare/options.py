"""The options of ``compare()``, each declared once; it reads no file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, MISSING, dataclass
from typing import TypeAlias

from localgen._util.checks import check_bool, check_choice, check_int
from localgen._util.option_fields import (
    FilePath,
    FlagForm,
    check_callable,
    check_fields,
    check_path,
    check_str,
    integer,
    items,
    option,
    option_of,
    optional,
)
from localgen.compare.compute_device import FORMS
from localgen.config import KV_TYPES, ModelConfig

Progress: TypeAlias = Callable[[int, int, str], object]

# Without n_ctx and n_chunks, and without a reference pack, which has its own.
N_CTX, N_CHUNKS = 512, 16
# What the command compares if it is not given levels.
USUAL_LEVELS = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")

_LIST = "A,B,…"
_PATH = optional(check_path)


def check_names(option: str, names: Sequence[FilePath], what: str) -> Sequence[FilePath]:
    """Return ``names``; raise ValueError if there is none, an empty one, or one twice.

    Each must be ``what``.
    """
    given = [str(name).strip() for name in names]
    if not any(given):
        raise ValueError(f"{option} is empty: name at least one, each {what}")
    for name in given:
        if not name:
            raise ValueError(f"{option} has an empty name ({','.join(given)}): each must be {what}")
        if given.count(name) > 1:
            raise ValueError(f"{option} has {name} twice ({','.join(given)}): name each once")
    return names


def _check_kv_types(name: str, types: Sequence[str]) -> Sequence[FilePath]:
    for kv_type in types:
        check_choice(name, kv_type, KV_TYPES)
    return check_names(name, types, "a type of KV cache")


def _check_devices(name: str, devices: Sequence[str]) -> Sequence[FilePath]:
    return check_names(name, devices, FORMS)


def _check_depths(name: str, depths: Sequence[int]) -> Sequence[int]:
    for depth in depths:
        check_int(f"each of {name}", depth, 1)
        if depths.count(depth) > 1:
            raise ValueError(f"{name} has {depth} twice: name each once")
    return depths


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """The arguments of ``compare()``, which documents them.

    Raises ValueError for a wrong one, and for those that cannot be combined.
    """

    source: FilePath = option(MISSING, check_path)
    levels: Sequence[FilePath] = option(
        (),
        items(),
        help="Compare these: levels to make from SRC, files or Hub names.",
        flag=FlagForm.WORDS,
        metavar=_LIST,
        shown=f"{','.join(USUAL_LEVELS)}; with --reference-pack SRC itself",
    )
    _: KW_ONLY
    kv_types: Sequence[str] = option(
        ("f16",),
        items(_check_kv_types),
        help="Try each level with these KV cache types.",
        flag=FlagForm.WORDS,
        metavar=_LIST,
    )
    text: str | None = option(
        None,
        optional(check_str),
        help="Measure quality on this UTF-8 text.",
        flag=FlagForm.TEXT,
        metavar="FILE",
        shown="English prose that comes with Python",
    )
    n_ctx: int | None = option(
        None,
        optional(integer(8, 2**20)),
        help="Cut the text into chunks of this many tokens.",
        shown=str(N_CTX),
    )
    n_chunks: int | None = option(
        None, optional(integer(1)), help="Use this many chunks of the text.", shown=str(N_CHUNKS)
    )
    n_rounds: int = option(3, integer(1), help="Measure speed this many times.")
    speed: bool = option(True, check_bool, help="Measure speed.")
    quality: bool = option(True, check_bool, help="Measure quality.")
    imatrix: FilePath | None = option(
        None,
        _PATH,
        help="Make levels with this importance matrix; auto makes one first.",
        metavar="FILE",
    )
    tasks: Sequence[FilePath] = option(
        (),
        items(),
        help="Ask each level these questions: a file (JSON Lines or CSV), demo, or names of "
        "lm-eval's tasks, separated by commas; can be repeated.",
        flag=FlagForm.NAMES,
        metavar="NAMES",
    )
    task_limit: int | None = option(
        None,
        optional(integer(1)),
        help="Use this many questions of each task.",
        shown="all of them",
    )
    include_path: FilePath | None = option(
        None, _PATH, help="Also find lm-eval's tasks in the YAML files of DIR.", metavar="DIR"
    )
    devices: Sequence[str] = option(
        ("auto",),
        items(_check_devices),
        help=f"Try each level on these devices: {FORMS}.",
        flag=FlagForm.WORDS,
        metavar=_LIST,
    )
    chats: FilePath | None = option(
        None,
        _PATH,
        help="Compare greedy replies to the chats of FILE (JSON Lines with messages), or of "
        "localgen's own: auto.",
        metavar="FILE",
    )
    depths: Sequence[int] = option(
        (),
        items(_check_depths),
        help="Measure speed after so many cached tokens, too.",
        flag=FlagForm.INTEGERS,
        metavar=_LIST,
    )
    energy: bool = option(
        False, check_bool, help="Measure joules per token (Linux, Intel and AMD)."
    )
    reference_pack: FilePath | None = option(
        None,
        _PATH,
        help="Measure quality against the reference pack in FILE, without the reference.",
        metavar="FILE",
    )
    save_reference_pack: FilePath | None = option(
        None, _PATH, help="Save the reference's predictions in FILE.", metavar="FILE"
    )
    keep: FilePath | None = option(
        None, _PATH, help="Keep the quantized files in DIR.", metavar="DIR"
    )
    n_threads: int | None = option_of(ModelConfig, "n_threads")
    results: FilePath | None = option(
        None,
        _PATH,
        help="Write results to FILE (JSON) as they come in.",
        names=("-o", "--output"),
        metavar="FILE",
    )
    resume: bool = option(False, check_bool, help="Resume from the results in --output.")
    overwrite: bool = option(
        False,
        check_bool,
        help="Start over and discard what --output and --save-reference-pack hold.",
    )
    progress: Progress | None = option(None, optional(check_callable))

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_packs()
        if not self.levels and self.reference_pack is not None:
            object.__setattr__(self, "levels", (self.source,))
        check_names("levels", self.levels, "a quantization level, a file or a name on the Hub")
        self._check_results()
        if not (self.speed or self.quality or self.tasks or self.chats is not None):
            raise ValueError(
                "nothing to measure: speed and quality are off, and there are no tasks and no chats"
            )
        if self.energy and not self.speed:
            raise ValueError("energy=True needs speed=True: energy is measured with the speed")
        if self.depths and not self.speed:
            raise ValueError("depths needs speed=True: it is the speed that is measured there")

    def _check_packs(self) -> None:
        """Refuse reference packs with what they cannot be combined with."""
        names = ("reference_pack", "save_reference_pack")
        given = [name for name in names if getattr(self, name) is not None]
        if given and not self.quality:
            raise ValueError(f"{given[0]} needs quality=True: a pack is for measuring quality")
        if len(given) > 1:
            raise ValueError(
                "reference_pack and save_reference_pack exclude each other: a pack is saved from "
                "the reference itself"
            )
        if self.reference_pack is not None and (self.tasks or self.chats is not None):
            raise ValueError(
                f"reference_pack cannot be used with {'tasks' if self.tasks else 'chats'}: a pack "
                f"does not have the reference's answers. Leave out one of them."
            )

    def _check_results(self) -> None:
        if self.results is not None and self.results == self.save_reference_pack:
            raise ValueError("results and save_reference_pack are one file: name two")
        if self.resume and self.results is None:
            raise ValueError("resume=True needs results=, the file of the results")
        if self.overwrite and self.results is None and self.save_reference_pack is None:
            raise ValueError("overwrite=True needs results= or save_reference_pack=, a file")
        if self.resume and self.overwrite:
            raise ValueError("resume=True and overwrite=True exclude each other: choose one")
