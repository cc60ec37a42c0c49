"""Stats of a sequence that nothing generated."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from localgen.completion import Stats

_TEXTS = {"flash_attention": "off", "cache_miss_reason": None, "no_speculation_because": None,
          "attention_kept_because": None, "seed": None, "ttft": None, "tokens_per_second": None,
          "kv_unified": False}  # fmt: skip


def make_stats(**given: Any) -> Stats:
    """What is not given is 0, or None where that is possible."""
    return Stats(**{**dict.fromkeys((each.name for each in fields(Stats)), 0), **_TEXTS, **given})
