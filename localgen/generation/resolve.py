"""A GenerationConfig → what the engine needs, with every default resolved and every id checked."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from localgen._util.warn import warn
from localgen.config import DEFAULT_MAX_NEW_TOKENS, GenerationConfig, replace_options
from localgen.engine.sampling.chain import CustomProcessor, SamplingOptions
from localgen.errors import ContextFullError
from localgen.generation.inputs import check_ids


def resolved_configs(
    given: GenerationConfig | Sequence[GenerationConfig] | None,
    overrides: Mapping[str, Any],
    *,
    infer: bool,
) -> list[GenerationConfig]:
    """One config for all prompts, or one each, with overrides; see ``with_sampling_resolved``."""
    if given is None or isinstance(given, GenerationConfig):
        given = [given or GenerationConfig()]
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise TypeError(
            f"generation_config must be a GenerationConfig, or a list of one a prompt, got "
            f"{given!r:.80}; options may also be given by name, as max_new_tokens=9"
        )
    configs = []
    for config in given:
        if not isinstance(config, GenerationConfig):
            raise TypeError(f"generation_config must hold GenerationConfigs, got {config!r}")
        configs.append(with_sampling_resolved(replace_options(config, overrides), infer=infer))
    return configs


def check_cancel(cancel: object) -> None:
    """TypeError unless it is None or an event."""
    if cancel is not None and not callable(getattr(cancel, "is_set", None)):
        raise TypeError(
            f"cancel must be a threading.Event, which ends the call when it is set, got {cancel!r}"
        )


def check_text_options(config: GenerationConfig) -> None:
    """ValueError for what only generate() returns."""
    for name in ("return_dict_in_generate", "output_scores", "output_logits"):
        if getattr(config, name):
            raise ValueError(f"{name} is for generate(); here use logprobs=n")


def check_generate_options(configs: list[GenerationConfig]) -> None:
    """ValueError for what only the text API returns, or rows of one call cannot differ in."""
    for config in configs:
        if config.logprobs is not None:
            raise ValueError("logprobs is for complete() and stream(); here use output_logits=True")
        asked = [name for name in ("output_scores", "output_logits") if getattr(config, name)]
        if asked and not config.return_dict_in_generate:
            raise ValueError(f"{' and '.join(asked)} needs return_dict_in_generate=True")
    for name in ("return_dict_in_generate", "output_scores", "output_logits", "pad_token_id"):
        if len({getattr(config, name) for config in configs}) > 1:
            raise ValueError(f"{name} must be the same for all prompts of a call")


def with_sampling_resolved(config: GenerationConfig, *, infer: bool) -> GenerationConfig:
    """``config`` with ``do_sample`` True or False.

    infer: whether None means "sample if a sampling option is set" (the text API) or False
    (``generate()``). Warns of sampling options that greedy decoding does not read; ValueError for
    several sequences of one prompt without sampling, which would all be the same.
    """
    changed = config.changed_sampling_options
    do_sample = bool(changed) and infer if config.do_sample is None else config.do_sample
    if changed and not do_sample:
        warn(f"{', '.join(changed)} has no effect without do_sample=True: decoding is greedy")
    if config.num_return_sequences > 1 and not do_sample:
        raise ValueError(
            f"num_return_sequences={config.num_return_sequences} needs do_sample=True: "
            f"greedy decoding gives the same sequence every time"
        )
    return replace(config, do_sample=do_sample)


def sampling_options(
    config: GenerationConfig, n_vocab: int, processors: tuple[CustomProcessor, ...]
) -> SamplingOptions:
    """The part of ``config`` that chooses tokens; ValueError for ids outside the vocabulary."""
    bad_words = tuple(tuple(word) for word in config.bad_words_ids or ())
    biases = tuple(config.sequence_bias or ())
    listed = {
        "suppress_tokens": config.suppress_tokens or (),
        "pad_token_id": () if config.pad_token_id is None else (config.pad_token_id,),
        "bad_words_ids": [i for word in bad_words for i in word],
        "sequence_bias": [i for ids, _ in biases for i in ids],
    }
    for name, ids in listed.items():
        check_ids(np.array(ids, np.int64), n_vocab, name)
    return SamplingOptions(
        do_sample=bool(config.do_sample),
        temperature=float(config.temperature),
        top_k=config.top_k,
        top_p=float(config.top_p),
        min_p=float(config.min_p or 0.0),
        typical_p=float(config.typical_p),
        repetition_penalty=float(config.repetition_penalty),
        frequency_penalty=float(config.frequency_penalty),
        presence_penalty=float(config.presence_penalty),
        no_repeat_ngram_size=config.no_repeat_ngram_size,
        bad_words_ids=bad_words,
        sequence_bias=biases,
        suppress_tokens=tuple(config.suppress_tokens or ()),
        min_new_tokens=config.min_new_tokens or 0,
        custom=processors,
    )


def eos_token_ids(
    config: GenerationConfig, model_eos_ids: Iterable[int], n_vocab: int
) -> frozenset[int]:
    """The tokens that end a row: the caller's, or all that the model has."""
    if config.eos_token_id is None:
        return frozenset(model_eos_ids)
    ids = cast("tuple[int, ...]", config.eos_token_id)  # since __post_init__
    check_ids(np.array(ids, np.int64), n_vocab, "eos_token_id")
    return frozenset(ids)


def pad_token_id(config: GenerationConfig, model_pad_id: int | None, n_vocab: int) -> int | None:
    """What fills finished rows: the caller's pad token, or the model's if it has one."""
    if config.pad_token_id is None:
        return model_pad_id
    check_ids(np.array([config.pad_token_id]), n_vocab, "pad_token_id")
    return config.pad_token_id


def new_token_limit(config: GenerationConfig, n_prompt: int, width: int, n_ctx: int) -> int:
    """The most new tokens of one row.

    n_prompt: its real tokens. width: the length that ``max_length`` counts, padding included. The
    context's edge is a limit too. Raises ContextFullError if no token fits.
    """
    if n_prompt >= n_ctx:
        raise ContextFullError(n_prompt, n_ctx)
    limit = config.max_new_tokens
    if limit is None and config.max_length is not None:
        limit = config.max_length - width
        if limit < 1:
            raise ValueError(
                f"the input has {width} tokens and max_length is {config.max_length}: max_length "
                f"counts prompt and new tokens; raise it, or use max_new_tokens"
            )
    return min(limit or DEFAULT_MAX_NEW_TOKENS, n_ctx - n_prompt)


def warn_of_two_lengths(config: GenerationConfig) -> None:
    """transformers' warning where both lengths are given."""
    if config.max_new_tokens is not None and config.max_length is not None:
        warn(
            f"both max_new_tokens (={config.max_new_tokens}) and max_length "
            f"(={config.max_length}) are set: max_new_tokens wins"
        )


def row_seeds(config: GenerationConfig, n_rows: int) -> list[tuple[int, int]]:
    """The (seed, row) key of each row's random stream; see ``GenerationConfig.seed``."""
    seed = config.seed
    if isinstance(seed, tuple):
        if len(seed) != n_rows:
            raise ValueError(
                f"seed has {len(seed)} entries for {n_rows} rows; give one int for the call, or "
                f"one a row"
            )
        return [(row_seed, 0) for row_seed in seed]
    shared = secrets.randbits(64) if seed is None else cast("int", seed)
    return [(shared, row) for row in range(n_rows)]
