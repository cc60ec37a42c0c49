"""What calls return: completions, their statistics, and generate()'s dictionary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from localgen.engine.sequence import FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counts of one sequence, and where the time of its call went.

    n_prompt, n_cached, n_new: prompt tokens, those of them that it did not have to compute, and new
    tokens. cache_miss_reason: why none were reused, where some could have been. ttft: seconds from
    the start of the call to its first token.
    The other seconds are the call's, shared by its n_rows sequences: prefill (forward passes with
    prompt tokens), decode (the other passes), sample (choosing tokens), text (tokenizing,
    detokenizing, stop strings) and overhead (Python bookkeeping, and making a context if one was
    needed); together they are ``wall_seconds``, which excludes what the caller does between a
    stream's pieces.
    kv_unified: whether it shared cells of the KV cache with others that began alike.
    tokens_per_second: its tokens after the first, over the time that they took; None with fewer
    than two. seed: what reproduces its draws, as ``seed=[seed]`` if ``seed_row`` is 0; None for
    greedy.
    """

    n_prompt: int
    n_cached: int
    cache_miss_reason: str | None
    n_new: int
    prefill_seconds: float
    decode_seconds: float
    sample_seconds: float
    text_seconds: float
    overhead_seconds: float
    wall_seconds: float
    ttft: float | None
    tokens_per_second: float | None
    n_rows: int
    kv_unified: bool
    seed: int | None
    seed_row: int


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural-log probabilities at one step, from the model's logits before any processing.

    ``top``: the likeliest (token id, logprob) pairs, falling, as many as ``logprobs=n`` asked for.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One generated text.

    text: the new text, without special tokens, cut before a stop string. A character that the last
    tokens only began is left out too; ``token_ids`` has its bytes.
    token_ids: every new token, including an EOS that ended it.
    finish_reason: "eos", "stop", "length", "time" or "cancelled".
    stop_match: the stop string that ended it, or None.
    logprobs: one entry for each new token if asked for, else None.
    """

    text: str
    token_ids: list[int]
    prompt_token_ids: list[int]
    finish_reason: FinishReason
    stop_match: str | None
    logprobs: list[TokenLogprob] | None
    stats: Stats


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateOutput:
    """What ``generate(return_dict_in_generate=True)`` returns.

    sequences: int64 (rows, prompt + new). scores: float32 (rows, n_vocab) for each step, after all
    processors and filters (-inf where a token was removed); logits: the same before them. Both are
    None unless asked for, and NaN for rows that had already finished. finish_reasons and stats:
    one for each row. With torch input, the arrays are torch tensors.
    """

    sequences: Any
    scores: tuple[Any, ...] | None
    logits: tuple[Any, ...] | None
    finish_reasons: list[FinishReason]
    stats: list[Stats]
