"""What calls return: completions, their statistics, and generate()'s dictionary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from localgen.engine.sequence import FinishReason
from localgen.text.replies.messages import reply_message
from localgen.text.replies.results import ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counts of one sequence, and where the time of its call went.

    n_prompt, n_cached, n_new: prompt tokens, those of them that it did not have to compute, and new
    tokens. cache_miss_reason: why none were reused, where some could have been. ttft: seconds from
    the start of the call to its first token.
    The other seconds are the call's, shared by its n_rows sequences: prefill (forward passes with
    prompt tokens), decode (the other passes), sample (choosing tokens), draft (guessing tokens for
    speculation, with all passes of a draft model), text (tokenizing, detokenizing, stop strings),
    wait (while other calls, or another thread's ``score()``, had the model alone) and overhead
    (Python bookkeeping, and making a context if one was needed). Together they are
    ``wall_seconds``, which excludes what the caller does between a stream's pieces.
    n_passes: the forward passes that gave it tokens: n_new of them without speculation and forced
    tokens. n_drafted: tokens that were guessed and put into these passes; n_accepted: those of them
    that became its tokens. n_forced: tokens that a constraint left no choice for, which were not
    sampled. no_speculation_because: why there was none, where an option asked for it.
    n_threads: CPU threads of the call's last forward pass: they adapt if ``n_threads`` is None.
    kv_unified: whether it shared cells of the KV cache with others that began alike.
    flash_attention: "on" or "off"; both, as in "on, then off", if the faster one changed while it
    ran; "auto" where llama.cpp decides; None if nothing of it was computed. attention_kept_because:
    why it stayed although the other one was faster; None if nothing was in the way.
    tokens_per_second: its tokens after the first, over the time that they took; None with fewer
    than two. seed: what reproduces its draws, as ``seed=[seed]`` if ``seed_row`` is 0; None for
    greedy, and for drafts of an assistant model without a seed, whose lengths follow from time.
    """

    n_prompt: int
    n_cached: int
    cache_miss_reason: str | None
    n_new: int
    prefill_seconds: float
    decode_seconds: float
    sample_seconds: float
    draft_seconds: float
    text_seconds: float
    overhead_seconds: float
    wait_seconds: float
    wall_seconds: float
    ttft: float | None
    tokens_per_second: float | None
    n_rows: int
    n_threads: int
    n_passes: int
    n_drafted: int
    n_accepted: int
    n_forced: int
    no_speculation_because: str | None
    kv_unified: bool
    flash_attention: str | None
    attention_kept_because: str | None
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

    text: the new text, without special tokens, cut before a stop string; of a chat, without the
    reasoning and the tool calls. A character that the last
    tokens only began is left out too; ``token_ids`` has its bytes.
    token_ids: every new token, including an EOS that ended it. With token healing, also those that
    spell the end of the prompt again; ``prompt_token_ids`` are the ones before them.
    finish_reason: "eos", "stop", "length", "time" or "cancelled".
    stop_match: the stop string that ended it, or None.
    logprobs: one entry for each new token if asked for, else None.
    is_valid: whether the text satisfies its constraint and ended by itself; None without one.
    parsed: what the text says, as an object: of ``json_schema`` and ``json_object`` what the JSON
    is, or an instance of the class that was given; else the text. None unless ``is_valid``.
    reasoning: of a chat, what the model thought before and between its text; else None.
    tool_calls: of a chat, the tools that the model asked for. See ``ToolCall``.
    score: of a beam search, the sum of its tokens' log-probabilities / their number **
    ``length_penalty``; else None.
    """

    text: str
    token_ids: list[int]
    prompt_token_ids: list[int]
    finish_reason: FinishReason
    stop_match: str | None
    logprobs: list[TokenLogprob] | None
    stats: Stats
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    score: float | None = None
    parsed: Any = None
    is_valid: bool | None = None

    @property
    def message(self) -> dict[str, Any]:
        """The reply as a message to append to the conversation, with its tool calls."""
        return reply_message(self.text, self.reasoning, self.tool_calls)


class OutputFields(Mapping[str, Any]):
    """A result whose fields are attributes and, unless None, items as well: as transformers'
    ``ModelOutput``."""

    __slots__ = ()

    def _names(self) -> list[str]:
        return [each.name for each in fields(self)]  # type: ignore[arg-type]

    def __getitem__(self, key: Any) -> Any:
        """Return a field by its name, or by its number among those that are not None."""
        if not isinstance(key, str):
            return self.to_tuple()[key]
        if key not in self._names() or getattr(self, key) is None:
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._names() if getattr(self, name) is not None)

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getattr__(self, name: str) -> None:
        """None for what only transformers returns."""
        if name not in _ONLY_IN_TRANSFORMERS:
            raise AttributeError(f"{type(self).__name__} has no {name!r}")

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the fields that are not None."""
        return tuple(self.values())


_ONLY_IN_TRANSFORMERS = frozenset(
    {
        "attentions",
        "beam_indices",
        "cache",
        "hidden_states",
        "past_key_values",
        "sequences_scores",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateOutput(OutputFields):
    """What ``generate(return_dict_in_generate=True)`` returns.

    sequences: int64 (rows, prompt + new). scores: float32 (rows, n_vocab) for each step, after all
    processors and filters (-inf where a token was removed); logits: the same before them. Both are
    None unless asked for, and NaN for rows that had already finished. finish_reasons and stats:
    one for each row. With torch input, the arrays are torch tensors.

    Fields are attributes and items, as in transformers' outputs; what only those have is None.
    """

    sequences: Any
    scores: tuple[Any, ...] | None
    logits: tuple[Any, ...] | None
    finish_reasons: list[FinishReason]
    stats: list[Stats]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateBeamOutput(OutputFields):
    """What ``generate(num_beams=n, return_dict_in_generate=True)`` returns.

    sequences: int64 (rows, prompt + new), the best texts of each prompt, best first.
    sequences_scores: float32 (rows,), None without ``output_scores``. scores: float32 (prompts * n,
    n_vocab) for each step, the log-probabilities of each beam's next token after all processors and
    filters; logits: those of the model. Both are None unless asked for, and NaN where there was no
    beam. beam_indices: int32 (rows, new), the row of ``scores`` that each new token was chosen
    from, -1 after the end. finish_reasons and stats: one for each row. With torch input, the arrays
    are torch tensors.
    """

    sequences: Any
    sequences_scores: Any
    scores: tuple[Any, ...] | None
    logits: tuple[Any, ...] | None
    beam_indices: Any
    finish_reasons: list[FinishReason]
    stats: list[Stats]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardOutput(OutputFields):
    """What calling a model, ``model(input_ids)``, returns.

    loss: with ``labels``, the mean of -log p of each, float32 (). logits: float32 (rows, length,
    n_vocab), the scores of the token after each one; 0 at padding. Torch tensors for torch input.

    Reading ``past_key_values`` is an error: a loop that passes it on with the last token alone
    would get the scores of a text that is only that token.
    """

    loss: Any = None
    logits: Any

    def __getattr__(self, name: str) -> None:
        if name == "past_key_values":
            raise AttributeError(
                "a model's output has no past_key_values: pass all tokens so far in each call, or "
                "use generate() or stream(), which compute only what is new"
            )
        return OutputFields.__getattr__(self, name)
