"""The request of /v1/completions."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from localgen.serve.schemas.common import StreamOptions
from localgen.serve.schemas.sampling import SamplingFields, WithoutEffect

TokenIds = list[int]

_IDS = {"type": "array", "items": {"type": "integer"}, "minItems": 1}
_TEXT = {"type": "string"}
_SEVERAL = {"type": "array", "items": {"anyOf": [_TEXT, _IDS]}, "minItems": 1}
_PROMPTS = {"anyOf": [_TEXT, _IDS, _SEVERAL]}


def _prompts(value: Any) -> list[str | TokenIds]:
    """Return prompts of each form as a list of texts and lists of token ids."""
    prompts = [value] if isinstance(value, str) or _is_ids(value) else value
    if not isinstance(prompts, list) or not prompts:
        raise ValueError("must be a text, token ids, or a list of texts or of lists of token ids")
    if not all(isinstance(each, str) or _is_ids(each) for each in prompts):
        raise ValueError("must hold texts, or lists of token ids that are not empty")
    return prompts


def _is_ids(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(each, int) and not isinstance(each, bool) for each in value)
    )


class CompletionRequest(SamplingFields, WithoutEffect):
    """Prompts that the model continues."""

    model: str | None = Field(None, description="The only one, if left out.")
    prompt: Annotated[
        list[str | TokenIds], BeforeValidator(_prompts), WithJsonSchema(_PROMPTS, "validation")
    ]
    n: int | None = Field(None, ge=1)
    best_of: int | None = Field(None, ge=1, description="Only the value of n.")
    max_tokens: int | None = Field(None, ge=0, description="16 if left out; 0 only with echo.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    echo: bool | None = Field(None, description="Begin the text with the prompt.")
    logprobs: int | None = Field(None, ge=0, le=20)
    suffix: None = Field(None, description="Not supported: these models only continue a text.")

    # vLLM
    add_special_tokens: bool | None = Field(
        None, description="Whether the prompt gets the tokens that the model expects before a text."
    )

    # localgen
    token_healing: bool | None = None
