"""Formats a level's figures, for the table in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from localgen._util.format import as_size, counted, either
from localgen.compare.level_result import LevelResult
from localgen.compare.machines import machine_settings
from localgen.compare.results import Comparison

MISSING = "-"
_Z95 = 1.96

Value = float | str | None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table.

    meaning: what the figure is, for readers of the table. value: what to sort by; None if it was
    not measured. text: what to show. is_text: whether it is text, not a number. in_terminal:
    whether the terminal shows it.
    """

    title: str
    meaning: str
    value: Callable[[LevelResult], Value]
    text: Callable[[LevelResult], str]
    is_text: bool = False
    in_terminal: bool = True


def _number(
    title: str, name: str, text: Callable[[float], str], meaning: str, *, in_terminal: bool = True
) -> Column:
    def shown(level: LevelResult) -> str:
        value = getattr(level, name)
        return MISSING if value is None else text(value)

    return Column(
        title, meaning, lambda level: getattr(level, name), shown, in_terminal=in_terminal
    )


def _with_error(title: str, name: str, se: str, digits: int, meaning: str) -> Column:
    def shown(level: LevelResult) -> str:
        value = getattr(level, name)
        error = getattr(level, se) or 0.0
        return MISSING if value is None else f"{value:.{digits}f} ± {error:.{digits}f}"

    return Column(title, meaning, lambda level: getattr(level, name), shown)


def _spread(
    title: str, name: str, unit: str, digits: int, meaning: str, *, in_terminal: bool = True
) -> Column:
    def value(level: LevelResult) -> float | None:
        found = getattr(level, name)
        return None if found is None else found.median

    def shown(level: LevelResult) -> str:
        found = getattr(level, name)
        if found is None:
            return MISSING
        half = (found.high - found.low) / 2
        error = f" ± {half:.{digits}f}" if half else ""  # a single round has no spread
        return f"{found.median:.{digits}f}{error} {unit}"

    return Column(title, meaning, value, shown, in_terminal=in_terminal)


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.1f} %"


def _flips(level: LevelResult) -> str:
    # In short, so that the table fits a terminal of 80 columns.
    return "ref." if level.is_reference else _percent(level.flips)


def _same_text(level: LevelResult) -> str:
    if level.is_reference:
        return ""
    return MISSING if level.divergence_tokens is None else f"{level.divergence_tokens:g} tokens"


def _ece(level: LevelResult) -> str:
    if level.ece is None:
        return MISSING
    return f"{level.ece:.3f} ({level.ece_by_chance or 0.0:.3f})"


LEVEL = Column(
    "level",
    "quantization level, and the KV cache type if it is not F16",
    lambda level: level.label,
    lambda level: level.label,
    is_text=True,
)
KLD = _with_error(
    "KLD",
    "kld_mean",
    "kld_se",
    4,
    "Kullback-Leibler divergence D(reference ‖ level) of the predicted tokens, in nats: mean over "
    "tokens ± standard error",
)
PREFILL = _spread(
    "prefill", "prefill_tps", "/s", 0, "tokens per second, for a prompt of 512 tokens"
)
DECODE = _spread("decode", "decode_tps", "/s", 0, "new tokens per second, one sequence")
COLUMNS = (
    LEVEL,
    _number("size", "file_bytes", as_size, "file size, all shards"),
    _number("bits/w", "bits_per_weight", "{:.2f}".format, "bits per weight, over all tensors"),
    _number(
        "memory",
        "peak_rss_bytes",
        as_size,
        "peak memory of a process that loads the model and generates",
        in_terminal=False,
    ),
    _spread(
        "load",
        "load_seconds",
        "s",
        2,
        "time to load, with the file in the page cache",
        in_terminal=False,
    ),
    _spread(
        "first token",
        "ttft_seconds",
        "s",
        2,
        "time to the first token, for a prompt of 128 tokens",
        in_terminal=False,
    ),
    PREFILL,
    DECODE,
    _with_error("ppl", "perplexity", "perplexity_se", 2, "perplexity of the text ± standard error"),
    KLD,
    _number(
        "KLD p99",
        "kld_p99",
        "{:.3f}".format,
        "99th percentile of the KLD over tokens",
        in_terminal=False,
    ),
    _number(
        "KLD p99.9",
        "kld_p999",
        "{:.3f}".format,
        "99.9th percentile of the KLD over tokens: the worst in a thousand",
    ),
    _number(
        "KLD max",
        "kld_max",
        "{:.3f}".format,
        "largest KLD of a token",
        in_terminal=False,
    ),
    Column(
        "flips",
        "share of tokens whose most likely token is not the reference's",
        lambda level: level.flips,
        _flips,
    ),
    Column(
        "same top",
        "share of tokens where the reference has the same most likely token",
        lambda level: level.top1_agreement,
        lambda level: _percent(level.top1_agreement),
        in_terminal=False,
    ),
    Column(
        "ECE",
        "expected calibration error: how far the confidence in the most likely token is from the "
        "share of tokens where the text has it, mean over 15 bins; in brackets what a perfectly "
        "calibrated model would have on so few tokens",
        lambda level: level.ece,
        _ece,
        in_terminal=False,
    ),
    Column(
        "same text",
        "median number of greedy tokens before the text differs from the reference's",
        lambda level: level.divergence_tokens,
        _same_text,
    ),
)


def measured_columns(levels: Sequence[LevelResult]) -> list[Column]:
    """Return the columns with a figure of one of the levels, after their names."""
    return [
        column
        for column in COLUMNS
        if column is LEVEL or any(column.value(level) is not None for level in levels)
    ]


def shares_of_most(levels: Sequence[LevelResult]) -> list[float]:
    """Return each level's mean KLD as a share of the largest one, for bars."""
    klds = [level.kld_mean or 0.0 for level in levels]
    most = max(klds, default=0.0)
    return [max(0.0, kld / most) if most else 0.0 for kld in klds]


def fixed_line(result: Comparison) -> str | None:
    """Return the settings that were fixed, so that figures compare; None if none are recorded.

    "fixed: 2 threads, flash attention off"
    """
    parts = [text for text in (_threads(result), _attention(result)) if text]
    return f"fixed: {', '.join(parts)}" if parts else None


def _threads(result: Comparison) -> str | None:
    machines = machine_settings(result.settings).values()
    found = {each["n_threads"] for each in machines if isinstance(each.get("n_threads"), int)}
    if not found:
        return None
    if len(found) == 1:
        return counted(found.pop(), "thread")
    return f"{either([str(each) for each in sorted(found)])} threads"


def _attention(result: Comparison) -> str | None:
    """Return the setting of flash attention, and the types of KV cache if it depends on them."""
    kv_types: dict[str, dict[str, None]] = {}
    for level in result.levels:
        if level.flash_attention is not None:
            kv_types.setdefault(level.flash_attention, {})[level.kv_type] = None
    if not kv_types:
        return None
    if len(kv_types) == 1:
        return f"flash attention {attention_text(*kv_types)}"
    found = [f"{attention_text(each)} ({either([*kv_types[each]])})" for each in kv_types]
    return f"flash attention {', '.join(found)}"


def attention_text(setting: str) -> str:
    return "as llama.cpp decides" if setting == "auto" else setting


def sampling_error(result: Comparison) -> float | None:
    """Return how far off (95 %) mean KLDs may be that are estimated from a reference pack, as a
    share of them; None if none is."""
    estimates = [
        (level.kld_sampling_se, level.kld_mean)
        for level in result.levels
        if level.kld_sampling_se and level.kld_mean
    ]
    return max((_Z95 * se / abs(kld) for se, kld in estimates), default=None)


def noise_line(result: Comparison) -> str | None:
    """Return the KLD of the reference against itself as text, or what it is off by if it is
    estimated from a reference pack; None if neither was measured."""
    error = sampling_error(result)
    if result.noise is None and error is not None:
        return f"noise: KLDs from the reference pack are off by at most {100 * error:.2g} % (95 %)"
    if result.noise is None or result.noise.kld_mean is None:
        return None
    return f"noise: {result.noise.name}: KLD {result.noise.kld_mean:.2g}"
