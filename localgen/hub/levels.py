"""Chooses the file of a repository that a name means: levels, shards; it only handles text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from localgen.errors import ModelNotFoundError
from localgen.hub.names import HubName

DEFAULT_LEVEL = "Q4_K_M"
# From small to large, as llama.cpp lists them; _L and _XL are publishers' own mixtures.
LADDER = (
    "IQ1_S", "IQ1_M", "TQ1_0", "TQ2_0", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "Q2_K_S", "Q2_K",
    "Q2_K_L", "Q2_K_XL", "IQ3_XXS", "IQ3_XS", "Q3_K_S", "IQ3_S", "IQ3_M", "Q3_K_M", "Q3_K_L",
    "Q3_K_XL", "MXFP4", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_K_S", "Q4_K_M", "Q4_K_L", "Q4_K_XL", "Q4_1",
    "Q5_0", "Q5_K_S", "Q5_K_M", "Q5_K_L", "Q5_K_XL", "Q5_1", "Q6_K", "Q6_K_L", "Q6_K_XL", "Q8_0",
    "Q8_K_XL", "BF16", "F16", "F32",
)  # fmt: skip
_RANK = {level: rank for rank, level in enumerate(LADDER)}
_SPELLINGS = {"FP16": "F16", "FP32": "F32", "MXFP4_MOE": "MXFP4"}
_LEVEL = re.compile(
    r"(?:^|[-_./])(?P<level>(?:UD-)?"
    r"(?:I?Q\d_(?:K_XL|K_[SML]|K|XXS|XS|NL|[SM01])|TQ\d_0|MXFP4(?:_MOE)?|B?F16|FP16|FP?32))"
    r"(?=[-./]|$)",
    re.IGNORECASE,
)
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
# Not models: the projector of a vision model, the importance matrix used for quantizing.
_NO_MODEL = re.compile(r"(?:^|[-_./])(?:mmproj|imatrix)(?=[-_.])", re.IGNORECASE)


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
    """A model, and whether it is a substitute for the default level, which is missing."""

    model: Model
    substituted: bool = False


def level_of(file: str) -> str | None:
    """Return the quantization level in a file's name, in the usual spelling, or None."""
    stem = re.sub(r"(?:-\d{5}-of-\d{5})?\.gguf$", "", file, flags=re.IGNORECASE)
    found = [match["level"] for match in _LEVEL.finditer(stem)]
    return usual_spelling(found[-1]) if found else None


def models_of(files: Iterable[str]) -> list[Model]:
    """Return the models among a repository's files, sorted by name."""
    shards: dict[tuple[str, int], dict[int, str]] = {}
    models = []
    for file in sorted(files):
        if not file.lower().endswith(".gguf") or _NO_MODEL.search(file):
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


def choose(files: Iterable[str], name: HubName, default: str = DEFAULT_LEVEL) -> Choice:
    """Return the model that ``name`` means among ``files``.

    If the name has neither a file nor a level, it is the level ``default``, or the nearest one
    available. Raises ModelNotFoundError with what is available.
    """
    files = list(files)
    models = models_of(files)
    if name.file:
        found = [model for model in models if name.file in model.files]
        if not found and name.file in files:  # named explicitly, so it need not look like a model
            found = [Model((name.file,), None, 1)]
        if not found:
            raise ModelNotFoundError(_no_such_file(name, files))
        return Choice(_complete(found[0], name))
    if not models:
        raise ModelNotFoundError(
            f"{name.repo} holds no GGUF file, so llama.cpp cannot load it. Look for a repository "
            f"of the same model whose name ends in -GGUF."
        )
    wanted = usual_spelling(name.level or default)
    found = [model for model in models if model.level == wanted]
    if not found and name.level:
        raise ModelNotFoundError(
            f"{name.repo} has no {name.level}; it has {', '.join(_levels(models))}"
        )
    if found:
        return Choice(_only(found, name))
    return Choice(_nearest(models, wanted, name), substituted=len(models) > 1)


def usual_spelling(level: str) -> str:
    """Return a level as it is usually written: F16 for "fp16"."""
    text = level.upper()
    return _SPELLINGS.get(text, text)


def _rank(level: str | None) -> int | None:
    return _RANK.get(level.removeprefix("UD-")) if level else None


def _nearest(models: list[Model], wanted: str, name: HubName) -> Model:
    """Return the model whose level is the fewest steps away; of two, the smaller one."""
    ranked = [(rank, model) for model in models if (rank := _rank(model.level)) is not None]
    if not ranked:
        return _only(models, name)
    goal = _rank(wanted) or _RANK[DEFAULT_LEVEL]
    best = min(abs(rank - goal) for rank, _ in ranked)
    rank = min(rank for rank, _ in ranked if abs(rank - goal) == best)
    return _only([model for each, model in ranked if each == rank], name)


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


def _no_such_file(name: HubName, files: list[str]) -> str:
    import difflib  # noqa: PLC0415  # only for this message

    weights = [file for file in files if file.lower().endswith(".gguf")]
    near = difflib.get_close_matches(name.file or "", weights, n=3, cutoff=0.3) or weights[:10]
    hint = f"the closest are {', '.join(near)}" if near else "it holds no GGUF file"
    return f"{name.repo} has no file {name.file} at {name.revision}; {hint}"
