"""How tokens are chosen and when a text ends: the fields that all generating requests have.

First those of OpenAI's API, then those that vLLM and llama.cpp have besides, then localgen's own.
What they do is in docs/generate.md; the values that are allowed are ``GenerationConfig``'s.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from localgen.config import MAX_SEED
from localgen.serve.schemas.common import (
    OnlyFalse,
    OnlyTrue,
    RequestModel,
    ResponseFormat,
    StructuredOutputs,
    TextOrTexts,
)


class SamplingFields(RequestModel):
    """The options of a text."""

    # OpenAI
    temperature: float | None = Field(None, ge=0, description="0 is greedy; 1 if left out.")
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = Field(
        None, description="Biases by token id, -100 to 100."
    )
    seed: int | None = Field(
        None, ge=-1, le=MAX_SEED, description="-1 takes a random one, as if it was left out."
    )
    stop: TextOrTexts | None = None
    response_format: ResponseFormat | None = None

    # vLLM and llama.cpp
    structured_outputs: StructuredOutputs | None = None
    top_k: int | None = Field(None, description="0 or -1 keeps all tokens; 50 if left out.")
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    repeat_penalty: float | None = Field(None, description="Another name of repetition_penalty.")
    min_tokens: int | None = None
    stop_token_ids: list[int] | None = Field(None, description="Tokens that end the text, too.")
    ignore_eos: bool | None = None
    bad_words_ids: list[list[int]] | None = None
    top_n_sigma: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    dry_sequence_breakers: list[str] | None = None
    dynatemp_range: float | None = None
    dynatemp_exponent: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    samplers: TextOrTexts | None = None
    cache_prompt: OnlyTrue | None = Field(None, description="Only true: prompts are cached.")
    skip_special_tokens: OnlyTrue | None = Field(None, description="Only true.")
    include_stop_str_in_output: OnlyFalse | None = Field(None, description="Only false.")

    # localgen
    epsilon_cutoff: float | None = None
    eta_cutoff: float | None = None
    top_h: float | None = None
    no_repeat_ngram_size: int | None = None
    encoder_repetition_penalty: float | None = None
    encoder_no_repeat_ngram_size: int | None = None
    exponential_decay_length_penalty: tuple[int, float] | None = Field(None, strict=False)
    suppress_tokens: list[int] | None = None
    begin_suppress_tokens: list[int] | None = None
    guidance_scale: float | None = None
    negative_prompt: str | None = None
    watermarking_config: dict[str, Any] | None = None
    num_beams: int | None = None
    length_penalty: float | None = None
    early_stopping: bool | Literal["never"] | None = None
    prompt_lookup_num_tokens: int | None = None
    max_matching_ngram_size: int | None = None


class WithoutEffect(RequestModel):
    """Fields of OpenAI's API that change nothing here, at the values that ask for nothing."""

    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: dict[str, str] | None = None
    store: OnlyFalse | None = Field(None, description="Only false: nothing is stored.")
    service_tier: Literal["auto", "default"] | None = None
