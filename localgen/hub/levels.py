"""Chooses the file of a repository that a name means: levels, shards; it reads no file itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from localgen._util.suggestions import similar_names
from localgen.errors import ModelNotFoundError
from localgen.hub.names import HubName

DEFAULT_LEVEL = "Q4_K_M"
# From small to large, as llama.cpp lists them; _L and _XL are publishers' own mixtures.
LADDER = (
    "Q1_0", "IQ1_S", "IQ1_M", "TQ1_0", "TQ2_0", "Q2_0", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M",
    "Q2_K_S", "Q2_K", "Q2_K_L", "Q2_K_XL", "IQ3_XXS", "IQ3_XS", "Q3_K_S", "IQ3_S", "IQ3_M",
    "Q3_K_M", "Q3_K_L", "Q3_K_XL", "MXFP4", "NVFP4", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_K_S", "Q4_K_M",
    "Q4_K_L", "Q4_K_XL", "Q4_1", "Q5_0", "Q5_K_S", "Q5_K_M", "Q5_K_L", "Q5_K_XL", "Q5_1", "Q6_K",
    "Q6_K_L", "Q6_K_XL", "Q8_0", "Q8_K_XL", "BF16", "F16", "F32",
)  # fmt: skip
_RANK = {level: rank for rank, level in enumerate(LADDER)}
_SPELLINGS = {"FP16": "F16", "FP32": "F32", "MXFP4_MOE": "MXFP4"}
_LEVEL = re.compile(
    r"(?:^|[-_./])(?P<level>(?:UD-)?"
    r"(?:I?Q\d_(?:K_XL|K_[SML]|K|XXS|XS|NL|[SM01])|TQ\d_0|MXFP4(?:_MOE)?|NVFP4|B?F16|FP16|FP?32))"
    r"(?=[-./]|$)",
    re.IGNORECASE,
)
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
# What is published beside a model, by the names that llama.cpp's tools and publishers give it: a
# word of the file's or a folder's name, or how one of them begins. "mtp" and "draft" in the middle
# are part of the names of whole models.
_COMPANION = re.compile(
    r"(?:^|[-_./])(?:mmproj|imatrix)(?=[-_./])"
    r"|(?:^|/)(?:mtp|eagle\d?|dflash|dspark|draft|drafter|loras?|control[-_]vectors?)(?=[-_./])",
    re.IGNORECASE,
)
# The mark of a publisher's own mixture of a level.
_PUBLISHERS = "UD-"

KindOf = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Model:
    """One model of a repository; ``files`` are its shards in order, or its one file."""

    files: tuple[str, ...]
    level: str | None
    n_shards: int

    @property
    def is_complete(self) -> bool:
        return len(self.files) == self.n_shards


@dataclass(frozen=True, slots=True)
class Choice:
    """A model; ``note`` says why it is not the wanted level, if the user should know."""

    model: Model
    note: str | None = None


def level_of(file: str) -> str | None:
    """Return the quantization level in a file's name, in the usual spelling, or None."""
    stem = re.sub(r"(?:-\d{5}-of-\d{5})?\.gguf$", "", file, flags=re.IGNORECASE)
    found = [match["level"] for match in _LEVEL.finditer(stem)]
    return usual_spelling(found[-1]) if found else None


def models_of(files: Iterable[str]) -> list[Model]:
    """Return the models among a repository's files, sorted by name, without companions."""
    return grouped(file for file in files if not _COMPANION.search(file))


def grouped(files: Iterable[str]) -> list[Model]:
    """Return the GGUF files as models, the shards of one together, sorted by name."""
    shards: dict[tuple[str, int], dict[int, str]] = {}
    models = []
    for file in sorted(files):
        if not is_gguf(file):
            continue
        match = _SHARD.fullmatch(file)
        if match:
            key = match["stem"], int(match["count"])
            shards.setdefault(key, {})[int(match["number"])] = file
        else:
            models.append(Model((file,), level_of(file), 1))
    for (_, count), found in shards.items():
        wanted = tuple(found[number] for number in range(1, count + 1) if number in found)
        models.append(Model(wanted, level_of(next(iter(found.values()))), count))
    return sorted(models, key=lambda model: model.files)


def is_gguf(file: str) -> bool:
    """Return whether a file is one by its name."""
    return file.lower().endswith(".gguf")


def have_one_name(files: Iterable[str]) -> bool:
    """Return whether all models of a repository have the same name, apart from their level."""
    return len({_stem(model.files[0]) for model in models_of(files)}) == 1


def _stem(file: str) -> str:
    name = re.sub(r"(?:-\d{5}-of-\d{5})?\.gguf$", "", file.rsplit("/", maxsplit=1)[-1].lower())
    return _LEVEL.sub("", name).strip("-_.")


def choose(
    files: Iterable[str],
    name: HubName,
    default: str = DEFAULT_LEVEL,
    kind_of: KindOf = lambda _file: None,
) -> Choice:
    """Return the model that ``name`` means among ``files``.

    If the name has neither a file nor a level, it is the level ``default``, or the nearest one
    available. kind_of: returns what a file is by its header, if it is no language model; such a
    file is chosen only by its name. Raises ModelNotFoundError with what is available.
    """
    files = list(files)
    if name.file:
        found = [model for model in grouped(files) if name.file in model.files]
        if not found:
            raise ModelNotFoundError(_no_such_file(name, files))
        return Choice(_complete(found[0], name))
    models = models_of(files)
    others: dict[str, str] = {}
    if not models:  # only companions, by their names: the headers decide
        models, others = _split_by_kind(grouped(files), kind_of)
    while models:
        found, note = _candidates(models, name, default)
        rest, no_models = _split_by_kind(found, kind_of)
        if rest:
            model = _only(rest, name)
            return Choice(model, f"{note}: {model.files[0]}" if note else None)
        others |= no_models
        models = [model for model in models if model not in found]
    raise ModelNotFoundError(_no_model(name, others))


def without_companions(models: list[Model], kind_of: KindOf) -> list[Model]:
    """Return the models that are language models by their headers; see ``choose``."""
    return _split_by_kind(models, kind_of)[0]


def _split_by_kind(models: list[Model], kind_of: KindOf) -> tuple[list[Model], dict[str, str]]:
    """Return the language models, and what the others are by their first file."""
    kinds = {model.files[0]: kind_of(model.files[0]) for model in models}
    others = {file: kind for file, kind in kinds.items() if kind}
    return [model for model in models if model.files[0] not in others], others


def _candidates(models: list[Model], name: HubName, default: str) -> tuple[list[Model], str | None]:
    """Return the models of the level that is wanted or stands in for it, and what to say of it."""
    wanted = usual_spelling(name.level or default)
    found = of_level(models, wanted) if name.level else [m for m in models if m.level == wanted]
    if not found and name.level:
        raise ModelNotFoundError(
            f"{name.repo} has no {name.level}; it has {', '.join(_levels(models))}"
        )
    if found and found[0].level == wanted:
        return found, None
    if found:
        return found, f"{name.repo} has no {wanted}; using {found[0].level}"
    note = f"{name.repo} has no {wanted}; using the nearest level"
    return _nearest(models, wanted), note if len(models) > 1 else None


def of_level(models: list[Model], level: str) -> list[Model]:
    """Return the models of a level in the usual spelling, or else those of a publisher's mixture of
    it."""
    exact = [model for model in models if model.level == level]
    return exact or [model for model in models if model.level and _plain(model.level) == level]


def usual_spelling(level: str) -> str:
    """Return a level as it is usually written: F16 for "fp16"."""
    text = level.upper()
    return _SPELLINGS.get(text, text)


def _plain(level: str) -> str:
    return level.removeprefix(_PUBLISHERS)


def _rank(level: str | None) -> int | None:
    return _RANK.get(_plain(level)) if level else None


def _nearest(models: list[Model], wanted: str) -> list[Model]:
    """Return the models whose level is the fewest steps away; of two levels, the smaller one."""
    ranked = [(rank, model) for model in models if (rank := _rank(model.level)) is not None]
    if not ranked:
        return models
    goal = _rank(wanted) or _RANK[DEFAULT_LEVEL]
    best = min(abs(rank - goal) for rank, _ in ranked)
    rank = min(rank for rank, _ in ranked if abs(rank - goal) == best)
    return [model for each, model in ranked if each == rank]


def _only(models: list[Model], name: HubName) -> Model:
    """Return the only model; raise a ModelNotFoundError that names all if there are several."""
    if len(models) > 1:
        files = ", ".join(model.files[0] for model in models)
        raise ModelNotFoundError(
            f"{name} matches {len(models)} files: {files}. Name one of them: {name.repo}/FILE"
        )
    return _complete(models[0], name)


def _complete(model: Model, name: HubName) -> Model:
    if not model.is_complete:
        raise ModelNotFoundError(
            f"{name} is split into {model.n_shards} files, and only {len(model.files)} exist: "
            f"{', '.join(model.files)}"
        )
    return model


def _levels(models: list[Model]) -> list[str]:
    levels = {model.level for model in models if model.level}
    return sorted(levels, key=lambda level: (_rank(level) or 0, level)) or [
        model.files[0] for model in models
    ]


def _no_model(name: HubName, others: dict[str, str]) -> str:
    if others:
        listed = "; ".join(f"{file} is {kind}" for file, kind in sorted(others.items())[:3])
        return f"{name.repo} holds no language model: {listed}"
    return (
        f"{name.repo} holds no GGUF file, so llama.cpp cannot load it. Look for a repository "
        f"of the same model whose name ends in -GGUF."
    )


def _no_such_file(name: HubName, files: list[str]) -> str:
    weights = [file for file in files if is_gguf(file)]
    near = similar_names(name.file or "", weights, cutoff=0.3) or weights[:10]
    hint = f"the closest are {', '.join(near)}" if near else "it holds no GGUF file"
    return f"{name.repo} has no file {name.file} at {name.revision}; {hint}"
