"""What calls return: completions, their statistics, and generate()'s dictionary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from localgen.engine.sequence import FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counts of one row, and where the seconds of the call that it was part of went.

    n_prompt, n_cached, n_new: prompt tokens, those of them that this row did not have to compute,
    and new tokens. ttft: seconds from the start of the call to the row's first token.
    The other seconds are the call's, shared by all its rows: prefill (forward passes with prompt
    tokens), decode (the other passes), sample (choosing tokens), text (tokenizing, detokenizing,
    stop strings) and overhead (Python bookkeeping, and making the context where one was needed);
    together they are ``wall_seconds``, but for what the caller does between a stream's pieces.
    kv_unified: whether the row shared cells of the KV cache with others that began alike.
    tokens_per_second: the row's tokens after the first, over the time that they took; None with
    fewer than two. seed: what reproduces the row's draws, with ``seed=[seed]`` if ``seed_row`` is
    0; None for greedy.
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

    text: the new text: special tokens left out, cut before a stop string. A character that the
    last tokens only began is left out too; ``token_ids`` has all its bytes.
    token_ids: every new token, an EOS that ended the row included.
    finish_reason: "eos", "stop", "length", "time" or "cancelled".
    stop_match: the stop string that ended the row, or None.
    logprobs: one entry a new token if asked for, else None.
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

    sequences: int64 (rows, prompt + new). scores: one float32 (rows, n_vocab) a step, after all
    processors and filters (-inf where a token was removed); logits: the same before them. Both are
    None unless asked for, and NaN for rows that had already finished. finish_reasons and stats:
    one a row. With torch input, the arrays are torch tensors.
    """

    sequences: Any
    scores: tuple[Any, ...] | None
    logits: tuple[Any, ...] | None
    finish_reasons: list[FinishReason]
    stats: list[Stats]
