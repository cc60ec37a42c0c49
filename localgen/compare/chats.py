"""Lets each variant answer chats at temperature 0, and compares its replies with the reference's.

The prompts are made once, by the chat template of the compared model, so all variants see the same.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from localgen.compare.chat_file import ChatFile, Message
from localgen.compare.divergence import divergences
from localgen.compare.level_result import ChatAgreement, Divergence
from localgen.compare.levels import Variant
from localgen.compare.record import Record
from localgen.compare.settings import Settings
from localgen.compare.task_metrics import wilson
from localgen.completion import Completion
from localgen.errors import CompareError, LocalgenError
from localgen.llama.backend import LlamaBackend
from localgen.llama.vocab_only import open_vocabulary
from localgen.model import LocalModel
from localgen.text.tokenizer import Tokenizer

N_NEW = 128

Prompts = list[list[int]]


def chat_prompts(source: Path, file: ChatFile) -> Prompts:
    """Return the token ids of each chat by the template of ``source``, ready for a reply.

    Raises CompareError for a chat that the template rejects or that is too long.
    """
    with open_vocabulary(source) as vocab:
        tokenizer = Tokenizer(vocab)
        return [
            _prompt(tokenizer, messages, f"chat {number} of {file.name}", vocab.n_ctx_train)
            for number, messages in enumerate(file.chats, 1)
        ]


def _prompt(
    tokenizer: Tokenizer, messages: Sequence[Message], where: str, n_ctx_train: int | None
) -> list[int]:
    try:
        found: list[int] = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False
        )
    except (LocalgenError, TypeError, ValueError) as error:
        raise CompareError(f"{where} cannot be a prompt: {error}") from error
    length = len(found) + N_NEW
    if n_ctx_train is not None and length > n_ctx_train:
        raise CompareError(
            f"{where} is too long: with {N_NEW} new tokens it has {length}, and the model was "
            f"trained on {n_ctx_train}. Shorten it."
        )
    return found


def measure_chats(
    settings: Settings,
    record: Record,
    reference: Variant,
    variants: Sequence[Variant],
    prompts: Prompts,
) -> None:
    """Measure how far each variant's replies agree with the reference's, if not done yet."""
    todo = [variant for variant in variants if record[variant].chats is None]
    if settings.chats is None or not todo:
        if not variants:
            record.note(f"chats were not asked: there is no level beside {reference.label}")
        return
    record.plan(1 + len(todo))
    expected = _replies(reference, settings, prompts)
    record.step(f"chats by {reference.label}")
    asked = [str(chat[-1].get("content", "")) for chat in settings.chats.chats]
    for variant in todo:
        try:
            found = divergences(asked, expected, _replies(variant, settings, prompts))
        except LocalgenError as error:
            record.fail(variant, error)
            continue
        record.set(variant, chats=agreement(found))
        record.step(f"chats by {variant.label}")


def agreement(found: tuple[Divergence, ...]) -> ChatAgreement:
    """Return how far replies agree, of at least one chat."""
    differing = [each.n_same for each in found if each.text != each.reference]
    n_equal = len(found) - len(differing)
    low, high = wilson(n_equal, len(found))
    return ChatAgreement(
        share_equal=n_equal / len(found),
        low=low,
        high=high,
        first_difference=float(statistics.median(differing)) if differing else None,
        replies=found,
    )


def _replies(variant: Variant, settings: Settings, prompts: Prompts) -> list[Completion]:
    config = variant.config(
        n_ctx=max(map(len, prompts)) + N_NEW, n_threads=settings.n_threads, max_sequences=8
    )
    with LocalModel(LlamaBackend(variant.path, config, adapts=False), config) as model:
        return model.complete(prompts, max_new_tokens=N_NEW, do_sample=False)
