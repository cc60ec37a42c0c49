"""What a comparison found, as types and as JSON; it measures nothing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localgen._util.atomic_write import write_whole
from localgen.benchmark.measuring import Spread
from localgen.compare.metrics import KLD_PROBABILITIES
from localgen.compare.recommend import Recommendation, recommend
from localgen.errors import CompareError

SCHEMA = 2


@dataclass(frozen=True, slots=True)
class Divergence:
    """A greedy text beside the reference's: they have the first ``n_same`` tokens in common."""

    prompt: str
    reference: str
    text: str
    n_same: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelResult:
    """One level, with one type of KV cache. What was not measured is None.

    name: the level, as "Q4_K_M". error: why the rest is missing. is_reference: whether the others
    are compared with this one. file_bytes: of all shards. n_fallback: tensors that got a larger
    type than the level has for them, where it was made here. cold_load_seconds: with the file not
    in the page cache. peak_rss_bytes: of a process that loads it and generates. prefill_tps,
    decode_tps: tokens/s of a prompt of 512, and of 64 new tokens, one sequence. ttft_seconds: of a
    prompt of 128. divergence_tokens: median of the greedy tokens before the text leaves the
    reference's. The others: see ``metrics.Quality``.
    """

    name: str
    kv_type: str = "f16"
    error: str | None = None
    is_reference: bool = False
    file: str | None = None
    sha256: str | None = None
    file_bytes: int | None = None
    bits_per_weight: float | None = None
    n_fallback: int | None = None
    load_seconds: Spread | None = None
    cold_load_seconds: Spread | None = None
    peak_rss_bytes: int | None = None
    prefill_tps: Spread | None = None
    decode_tps: Spread | None = None
    ttft_seconds: Spread | None = None
    n_tokens: int | None = None
    perplexity: float | None = None
    perplexity_se: float | None = None
    ln_ppl_ratio: float | None = None
    ln_ppl_ratio_se: float | None = None
    kld_mean: float | None = None
    kld_se: float | None = None
    kld_median: float | None = None
    kld_p90: float | None = None
    kld_p99: float | None = None
    kld_max: float | None = None
    kld_quantiles: tuple[float, ...] = ()
    top1_agreement: float | None = None
    delta_p_rms: float | None = None
    divergence_tokens: float | None = None
    divergences: tuple[Divergence, ...] = ()

    @property
    def label(self) -> str:
        """The name, and the KV cache's type where that is not F16."""
        return self.name if self.kv_type == "f16" else f"{self.name} kv {self.kv_type}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Levels of one model side by side, and all that a repetition needs.

    noise: the reference against itself under other threads and batches: what is no larger than
    this means nothing. settings: the command, versions, CPU and text; of a merged comparison a
    dict of these for each machine, under "#1", "#2" and so on.
    """

    source: str
    settings: dict[str, Any]
    levels: tuple[LevelResult, ...] = ()
    noise: LevelResult | None = None
    notes: tuple[str, ...] = field(default=())

    def __getitem__(self, label: str) -> LevelResult:
        """The level of that name, or "NAME kv TYPE"; KeyError if there is none."""
        found = {level.label: level for level in self.levels}
        if label not in found:
            raise KeyError(f"{label!r} was not compared; the levels are {', '.join(found)}")
        return found[label]

    def recommend(
        self, memory: int | str | None = None, max_kld: float | None = None
    ) -> Recommendation:
        """The level to keep, of those that fit ``memory`` (bytes, or "4GB") and whose mean KLD is
        at most ``max_kld``; see ``recommend.recommend``."""
        return recommend(self.levels, memory=memory, max_kld=max_kld)

    def to_json(self) -> str:
        return json.dumps({"schema": SCHEMA, **dataclasses.asdict(self)}, indent=1)

    def save(self, path: Path) -> None:
        """Write the JSON to ``path``, as a whole or not at all."""
        write_whole(path, self.to_json().encode())

    @classmethod
    def load(cls, path: Path) -> Comparison:
        """Read what ``save`` wrote. Raises CompareError for anything else."""
        try:
            return cls.from_json(path.read_text("utf-8"))
        except (ValueError, TypeError, KeyError) as error:
            raise CompareError(f"{path} is not a comparison, or is corrupt: {error}") from error
        except CompareError as error:
            raise CompareError(f"{path}: {error}") from error

    @classmethod
    def from_json(cls, text: str) -> Comparison:
        data = json.loads(text)
        schema = data.pop("schema", None)
        if schema != SCHEMA:
            raise CompareError(
                f"its schema is {schema!r}, and this version of localgen reads {SCHEMA}. Use the "
                f"version that wrote it."
            )
        data["levels"] = tuple(_level(level) for level in data["levels"])
        data["noise"] = _level(data["noise"]) if data["noise"] else None
        data["notes"] = tuple(data["notes"])
        return cls(**data)

    @classmethod
    def merged(cls, parts: Iterable[Comparison]) -> Comparison:
        """The levels and notes of several machines in one; each name gets its machine's number."""
        parts = list(parts)
        levels = tuple(
            dataclasses.replace(level, name=f"{level.name} #{number}")
            for number, part in enumerate(parts, 1)
            for level in part.levels
        )
        settings = {f"#{number}": part.settings for number, part in enumerate(parts, 1)}
        return cls(
            source=", ".join(dict.fromkeys(part.source for part in parts)),
            settings=settings,
            levels=levels,
            notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        )


_SPREADS = ("load_seconds", "cold_load_seconds", "prefill_tps", "decode_tps", "ttft_seconds")


def _level(data: dict[str, Any]) -> LevelResult:
    data = dict(data)
    for name in _SPREADS:
        if data.get(name) is not None:
            data[name] = Spread(**data[name])
    data["divergences"] = tuple(Divergence(**each) for each in data.get("divergences", ()))
    data["kld_quantiles"] = tuple(data.get("kld_quantiles", ()))
    if len(data["kld_quantiles"]) not in (0, len(KLD_PROBABILITIES)):
        raise CompareError(
            f"{data.get('name')} has {len(data['kld_quantiles'])} quantiles of the KLD, and "
            f"schema {SCHEMA} has {len(KLD_PROBABILITIES)}: the file is corrupt"
        )
    return LevelResult(**data)
