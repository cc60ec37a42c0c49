"""The results of one level; it measures nothing."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from localgen.benchmark.measuring import Spread
from localgen.compare.task_metrics import PairedDifference

# At the end of the name of a reference that is not here, but has a reference pack.
PACK = " (pack)"


@dataclass(frozen=True, slots=True)
class Divergence:
    """A greedy text and the reference's; the first ``n_same`` tokens are the same."""

    prompt: str
    reference: str
    text: str
    n_same: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAgreement:
    """How far greedy replies to chats are the reference's.

    share_equal: the share of replies with the same text; low, high: its 95 % interval.
    first_difference: the median number of tokens before the others differ; None if none does.
    replies: of each chat, with its last message as the prompt.
    """

    share_equal: float
    low: float
    high: float
    first_difference: float | None
    replies: tuple[Divergence, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedAtDepth:
    """Tokens/s with ``depth`` tokens in the KV cache: of 512 more of a prompt, and of 64 new ones.

    prefill_tps: None for a model that computes a cached prompt again.
    """

    depth: int
    prefill_tps: Spread | None
    decode_tps: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """The answers of one level to the questions of a task.

    accuracy: the share that is right, ± accuracy_se. accuracy_norm: of questions with choices, the
    share where the right choice has the largest log-probability by character; None without such.
    answers: what was chosen, as its number, or written. right: whether that is right. ids: what
    each question is called: its line in the file, or its number in a task of lm-eval. difference:
    from the reference; None for the reference itself.
    """

    name: str
    accuracy: float
    accuracy_se: float
    accuracy_norm: float | None
    answers: tuple[str, ...]
    right: tuple[bool, ...]
    ids: tuple[str, ...] = ()
    difference: PairedDifference | None = None

    def compared_with(self, difference: PairedDifference) -> TaskResult:
        """Return this result with its difference from the reference's."""
        return dataclasses.replace(self, difference=difference)


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelResult:
    """The results of one level with one type of KV cache on one device; None: not measured.

    name: the level, such as "Q4_K_M". device: as given, "cuda:20" for 20 layers on the GPU. error:
    why the rest is missing. is_reference: whether the others are compared with this one.
    file_bytes: of all shards. n_fallback: tensors stored in a larger type than the level's, if the
    comparison made the file. flash_attention: "on" or "off", fixed while it was measured; "auto"
    where llama.cpp decides. cold_load_seconds: with the file not in the page cache. peak_rss_bytes:
    of a process that loads the model and generates. prefill_tps, decode_tps: tokens/s for a prompt
    of 512, and for 64 new tokens, one sequence. ttft_seconds: for a prompt of 128. prefill_joules,
    decode_joules: the energy of the machine's processors per token of these. at_depths: speed after
    many tokens. divergence_tokens: median number of greedy tokens before the text differs from the
    reference's. chats: None for the reference. tasks: one for each task. The others:
    see ``metrics.Quality``.
    """

    name: str
    kv_type: str = "f16"
    device: str = "auto"
    error: str | None = None
    is_reference: bool = False
    file: str | None = None
    sha256: str | None = None
    file_bytes: int | None = None
    bits_per_weight: float | None = None
    n_fallback: int | None = None
    flash_attention: str | None = None
    load_seconds: Spread | None = None
    cold_load_seconds: Spread | None = None
    peak_rss_bytes: int | None = None
    prefill_tps: Spread | None = None
    decode_tps: Spread | None = None
    ttft_seconds: Spread | None = None
    prefill_joules: Spread | None = None
    decode_joules: Spread | None = None
    at_depths: tuple[SpeedAtDepth, ...] = ()
    n_tokens: int | None = None
    perplexity: float | None = None
    perplexity_se: float | None = None
    ln_ppl_ratio: float | None = None
    ln_ppl_ratio_se: float | None = None
    kld_mean: float | None = None
    kld_se: float | None = None
    kld_sampling_se: float | None = None
    kld_median: float | None = None
    kld_p90: float | None = None
    kld_p99: float | None = None
    kld_p999: float | None = None
    kld_max: float | None = None
    kld_quantiles: tuple[float, ...] = ()
    top1_agreement: float | None = None
    flips: float | None = None
    flips_se: float | None = None
    delta_p_rms: float | None = None
    ece: float | None = None
    ece_by_chance: float | None = None
    confidence: float | None = None
    accuracy: float | None = None
    divergence_tokens: float | None = None
    divergences: tuple[Divergence, ...] = ()
    chats: ChatAgreement | None = None
    tasks: tuple[TaskResult, ...] = ()

    @property
    def is_pack(self) -> bool:
        """Whether this is the reference of a pack, of which there is no file to keep."""
        return self.is_reference and self.name.endswith(PACK)

    @property
    def label(self) -> str:
        """The name, the KV cache's type if it is not F16, and the device if one was chosen."""
        kv_type = "" if self.kv_type == "f16" else f" kv {self.kv_type}"
        return f"{self.name}{kv_type}" + ("" if self.device == "auto" else f" on {self.device}")
