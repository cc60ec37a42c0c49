"""What the worker is asked, by name: calls that generate, and questions with one answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from localgen.generation import results
from localgen.generation.call import GenerationCall
from localgen.generation.resolve import check_streams
from localgen.generation.text_arguments import TextArguments, async_arguments
from localgen.model import LocalModel

# These run as tasks of one event loop, and can be cancelled.
ASYNC_ANSWERS = frozenset({"achoose", "aclassify", "ascore_tokens"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A call that generates, ready to run.

    parsers: of each row, what takes its reply apart; None where nothing does. sends_each: whether
    each row's completion is sent as soon as it is finished. is_eager: whether what is new is sent
    after each step, for somebody who reads it, or because a caller's function runs. facts: what the
    program is sent before the first update. outcome: returns the results so far.
    """

    call: GenerationCall
    parsers: list[Any]
    sends_each: bool
    is_eager: bool
    facts: Any
    outcome: Callable[[], Any]
    partial: Callable[[], Any]


def build(model: LocalModel, name: Any, arguments: dict[str, Any]) -> Built:
    """Build the call of ``complete()`` and its variants, or of ``generate()``."""
    return (_text_call if name == "text" else _ids_call)(model, **arguments)


def _text_call(
    model: LocalModel,
    *,
    is_single: bool,
    takes_apart: bool,
    sends_each: bool,
    is_streamed: bool,
    **options: Any,
) -> Built:
    """is_single: whether the call must have one row, as a stream does."""
    given: TextArguments[Any, Any] = async_arguments(**options)
    call = (model._requests.from_text if is_single else model._requests.from_texts)(given)
    parsers = [results.reply_parser(call, row) if takes_apart else None for row in call.sequences]
    done = lambda: results.completions(call)  # noqa: E731
    return Built(
        call=call,
        parsers=parsers,
        sends_each=sends_each,
        is_eager=is_streamed
        or sends_each
        or bool(given.logits_processor or given.stopping_criteria),
        facts=None,
        outcome=(lambda: None) if sends_each else done,
        partial=done,
    )


def _ids_call(
    model: LocalModel,
    *,
    input_ids: Any,
    attention_mask: Any,
    generation_config: Any,
    logits_processor: Any,
    stopping_criteria: Any,
    negative: Any,
    has_streamer: bool,
    overrides: dict[str, Any],
) -> Built:
    call = model._requests.from_ids(
        input_ids,
        attention_mask,
        generation_config,
        overrides,
        logits_processor=logits_processor,
        stopping_criteria=stopping_criteria,
        cancel=None,
        negative=negative,
    )
    config = call.configs[0]
    if has_streamer:
        check_streams(config)
        if len(call.sequences) != 1:
            raise ValueError(f"a streamer takes one sequence, this call has {len(call.sequences)}")
    for name in ("output_logits", "output_scores"):
        if getattr(config, name):
            raise ValueError(
                f"{name}=True: an isolated model sends no logits to the program; use logprobs=n of "
                f"complete(), or load the model without isolated=True"
            )
    return Built(
        call=call,
        parsers=[None] * len(call.sequences),
        sends_each=False,
        is_eager=has_streamer or bool(logits_processor or stopping_criteria),
        facts=(results.prompt_rows(call), call.pad_token_id, config.return_dict_in_generate),
        outcome=lambda: results.generated(call),
        partial=lambda: results.generate_output(call),
    )


def _vocab_table(model: LocalModel) -> tuple[Any, ...]:
    """Return spelling, bytes, type and whether it is special, of all tokens."""
    vocab = model.tokenizer._vocab
    ids = range(vocab.n_vocab)
    return tuple(
        list(map(each, ids))
        for each in (vocab.token_text, vocab.token_bytes, vocab.token_type, vocab.is_special)
    )


ANSWERS: dict[object, Callable[..., Any]] = {
    "score": LocalModel.score,
    "score_continuations": LocalModel.score_continuations,
    "save_session": LocalModel.save_session,
    "load_session": LocalModel.load_session,
    "tokenize": lambda model, **given: model.tokenizer._vocab.tokenize(**given),
    "vocab_table": _vocab_table,
    "n_slots_that_fit": lambda model, n_tokens: model._backend.n_slots_that_fit(n_tokens),
}
