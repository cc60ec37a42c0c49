"""A prompt and the choices after it → token ids; it runs nothing.

A token may span the end of a prompt: "Label: " ends with a space, which in most vocabularies
belongs to the word after it. So each choice is tokenized together with the prompt, as in any text.
What all of these share with the prompt alone is the *start*; a choice's tokens are those after it.
They may begin with the end of the prompt, which then all choices of that prompt spell again.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from localgen.engine.backend import TokenIds
from localgen.engine.prefix_matcher import common_length
from localgen.errors import ContextFullError
from localgen.generation.inputs import FixedStart, Prompt, encode
from localgen.text.tokenizer import Tokenizer

TEXT, LABEL = "{text}", "{label}"
LABEL_TEMPLATE = "Text: {text}\nLabel: {label}\n"


@dataclass(frozen=True, slots=True, eq=False)
class ChoiceTokens:
    """start: int32 (n,), n ≥ 1. continuations: the tokens of each choice after it, none empty."""

    start: TokenIds
    continuations: list[tuple[int, ...]]


def checked_texts(name: str, texts: Sequence[str]) -> list[str]:
    """Return choices or labels as a list. Raises TypeError unless all are texts, ValueError if
    there are none, one is empty or two are equal."""
    one = name.removesuffix("s")
    if isinstance(texts, str | bytes | Mapping) or not isinstance(texts, Sequence):
        raise TypeError(f"{name} must be a list of texts, got {texts!r:.80}")
    found = list(texts)
    if not found:
        raise ValueError(f"{name} is empty: pass at least one {one}")
    for index, text in enumerate(found):
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a list of texts, got {text!r:.80} at index {index}")
        if not text:
            raise ValueError(f"{one} {index} is empty: a {one} needs at least one character")
    _check_different(one, found, found, "are equal")
    return found


def checked_documents(texts: str | Sequence[str]) -> list[str]:
    """Return the texts to classify as a list. Raises TypeError unless all are texts, ValueError if
    there are none."""
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, bytes | Mapping) or not isinstance(texts, Sequence):
        raise TypeError(f"texts must be a text or a list of texts, got {texts!r:.80}")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts must be a list of texts, got {text!r:.80} at index {index}")
    if not texts:
        raise ValueError("texts is empty: pass at least one text")
    return list(texts)


def tokens_of(
    prompt: Prompt, choices: list[str], tokenizer: Tokenizer, *, split_special_tokens: bool
) -> ChoiceTokens:
    """Return the tokens of a prompt and of each choice after it.

    A prompt of token ids stays as it is. Raises ValueError for an empty prompt, a choice without
    tokens of its own, and choices with the same tokens.
    """
    ids = encode(prompt, tokenizer, "the prompt", split_special_tokens=split_special_tokens)
    text = prompt.prompt if isinstance(prompt, FixedStart) else prompt
    if isinstance(text, str):
        found = _after_text(text, ids, choices, tokenizer, split_special_tokens)
    else:
        last = int(ids[-1])
        split = split_special_tokens
        after = [tokenizer.encode_after(last, each, split_special_tokens=split) for each in choices]
        found = ChoiceTokens(ids, [*map(tuple, after)])
    for choice, token_ids in zip(choices, found.continuations, strict=True):
        if not token_ids:
            raise ValueError(f"choice {choice!r:.80} adds no token to the prompt")
    _check_different("choice", choices, found.continuations, "have the same tokens")
    return found


def _after_text(
    prompt: str, ids: TokenIds, choices: list[str], tokenizer: Tokenizer, split: bool
) -> ChoiceTokens:
    wholes = [
        np.array(tokenizer.encode(prompt + choice, split_special_tokens=split), np.int32)
        for choice in choices
    ]
    n_start = min(common_length(ids, whole) for whole in wholes)
    if not n_start:
        raise ValueError(
            f"the prompt {prompt!r:.80} and a choice begin with one token together, so there is no "
            f"token before the choice: use a longer prompt"
        )
    return ChoiceTokens(ids[:n_start], [tuple(whole[n_start:].tolist()) for whole in wholes])


def _check_different(
    one: str, texts: Sequence[str], keys: Sequence[Hashable], problem: str
) -> None:
    """Raise ValueError if two of ``keys`` are equal: both texts would get the same probability."""
    seen: dict[Hashable, int] = {}
    for index, key in enumerate(keys):
        first = seen.setdefault(key, index)
        if first != index:
            raise ValueError(
                f"{one}s {first} and {index} {problem}: {texts[first]!r:.80} and "
                f"{texts[index]!r:.80}. Leave one of them out."
            )


def check_choices_fit(start: TokenIds, continuations: Sequence[tuple[int, ...]], n_ctx: int) -> int:
    """Return the tokens of the prompt with the longest choice. Raises ContextFullError."""
    lengths = [len(each) for each in continuations]
    longest = int(np.argmax(lengths))
    n_tokens = len(start) + lengths[longest]
    if n_tokens > n_ctx:
        raise ContextFullError(n_tokens, n_ctx, f"prompt with choice {longest}")
    return n_tokens


def prompts_from_template(
    template: str, instruction: str, texts: list[str], labels: list[str]
) -> tuple[list[str], list[str]]:
    """Return the prompt of each text, and what follows for each label.

    Raises ValueError unless the template has {text} and then {label}, each once.
    """
    before, _, rest = template.partition(TEXT)
    between, _, after = rest.partition(LABEL)
    if [template.count(TEXT), rest.count(LABEL), before.count(LABEL)] != [1, 1, 0]:
        raise ValueError(
            f"template must have {TEXT} once and {LABEL} once after it, as "
            f"'Text: {TEXT}\\nLabel: {LABEL}', got {template!r:.80}"
        )
    head = f"{instruction}\n\n" if instruction else ""
    prompts = [f"{head}{before}{text}{between}" for text in texts]
    return prompts, [f"{label}{after}" for label in labels]
