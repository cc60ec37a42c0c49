"""What is said of the speed of a call."""

from __future__ import annotations

from localgen._util.format import counted
from localgen.completion import Stats


def _drafts(stats: Stats) -> str:
    if stats.no_speculation_because is not None:
        return f", no drafts ({stats.no_speculation_because})"
    n_drafted = stats.n_drafted
    accepted = f", {stats.n_accepted} of {counted(n_drafted, 'drafted token')} accepted"
    return accepted if n_drafted else ""


def stats_line(stats: Stats) -> str:
    """Return a line about the speed of a call."""
    prefill = stats.n_prompt - stats.n_cached
    rate = prefill / stats.prefill_seconds if stats.prefill_seconds else 0.0
    decode = f"{stats.tokens_per_second:.1f}" if stats.tokens_per_second else "-"
    ttft = f"{stats.ttft * 1e3:.0f} ms" if stats.ttft is not None else "-"
    cached = f" ({stats.n_cached} cached), the rest" if stats.n_cached else ""
    return (
        f"localgen: {counted(stats.n_prompt, 'prompt token')}{cached} at {rate:.1f}/s, "
        f"{stats.n_new} new at {decode}/s, first token after {ttft}, "
        f"{stats.wall_seconds:.2f} s in total"
        + _drafts(stats)
        + (f", seed {stats.seed}" if stats.seed is not None else "")
    )
