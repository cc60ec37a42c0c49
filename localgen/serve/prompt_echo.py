"""Prompts that are part of the answer, with the log-probabilities of their own tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from localgen.completion import TokenLogprob
from localgen.serve.schemas.completions import CompletionRequest


@dataclass(frozen=True, slots=True)
class Echo:
    """A prompt as its answer begins with it. logprobs: of its tokens after the first, if wanted."""

    text: str
    token_ids: Sequence[int]
    logprobs: Sequence[TokenLogprob] | None


async def echoes_of(
    given: CompletionRequest, prompts: Sequence[str | list[int]], model: Any
) -> list[Echo | None]:
    """Return the echo of each prompt, None where there is to be none."""
    if not given.echo:
        return [None] * len(prompts)
    return [
        await _echo(original, prompt, given.logprobs, model)
        for original, prompt in zip(given.prompt, prompts, strict=True)
    ]


async def _echo(
    original: str | list[int], prompt: str | list[int], n_top: int | None, model: Any
) -> Echo:
    tokenizer = model.tokenizer
    ids = prompt if isinstance(prompt, list) else await model.in_thread(tokenizer.encode, prompt)
    text = original if isinstance(original, str) else tokenizer.decode(ids)
    scores = None if n_top is None else await model.ascore_tokens(ids, top=n_top)
    return Echo(text, ids, scores)
