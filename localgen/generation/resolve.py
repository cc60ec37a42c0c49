"""Resolve the defaults of a GenerationConfig for one model, and check its token ids."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, cast

import numpy as np

from localgen._util.arrays import check_ids, torch_seed
from localgen._util.warn import warn
from localgen.config import DEFAULT_MAX_NEW_TOKENS, GenerationConfig, replace_options
from localgen.engine.sampling.guided import is_guided
from localgen.errors import ContextFullError
from localgen.generation.defaults import Configs, as_config, is_config
from localgen.samplers import fitting_defaults

_OUTPUTS = ("output_scores", "output_logits")
_ONLY_WITH_BEAMS = ("length_penalty", "early_stopping")
_PLAIN = {each.name: each.default for each in fields(GenerationConfig)}


def resolved_configs(
    given: Configs,
    overrides: Mapping[str, Any],
    *,
    defaults: GenerationConfig,
    infer: bool,
) -> list[GenerationConfig]:
    """Return one config for all prompts, or one each, with overrides; ``do_sample`` is resolved as
    by ``with_sampling_resolved``.

    defaults: what applies without a config, and where another program's leaves an option unset.
    """
    if given is None:
        configs = [defaults]
    elif isinstance(given, Sequence) and not isinstance(given, str):
        if not given:
            raise ValueError(
                "generation_config is an empty list: give one for all prompts, or one per prompt"
            )
        for each in given:
            if not is_config(each):
                raise TypeError(f"generation_config must hold GenerationConfigs, got {each!r}")
        configs = [as_config(each, defaults) for each in given]
    else:
        configs = [as_config(given, defaults)]
    return [
        with_sampling_resolved(replace_options(config, overrides), infer=infer)
        for config in configs
    ]


def with_file_defaults(
    config: GenerationConfig, file_defaults: Mapping[str, Any], overrides: Mapping[str, Any]
) -> GenerationConfig:
    """Return ``config`` with the sampling options that the model's file asks for, where it has
    localgen's defaults; unchanged if it is greedy.

    overrides: what the call will set; the file's options that these exclude are left out.
    """
    if config.do_sample is False:
        return config
    given = ((name, getattr(config, name)) for name in _PLAIN)
    changed = {name: value for name, value in given if value != _PLAIN[name]}
    unset = {name: value for name, value in file_defaults.items() if name not in changed}
    return replace_options(config, fitting_defaults(unset, {**changed, **overrides}))


def check_cancel(cancel: object) -> None:
    """Raise TypeError unless ``cancel`` is None or an event."""
    if cancel is not None and not callable(getattr(cancel, "is_set", None)):
        raise TypeError(
            f"cancel must be a threading.Event, which ends the call when it is set, got {cancel!r}"
        )


def check_text_options(config: GenerationConfig) -> None:
    """Raise ValueError for what only generate() returns."""
    for name in ("return_dict_in_generate", *_OUTPUTS):
        if getattr(config, name):
            raise ValueError(f"{name} is for generate(); here use logprobs=n")


def with_outputs_resolved(configs: list[GenerationConfig]) -> list[GenerationConfig]:
    """Return the configs of ``generate()`` without outputs that have no place to go, with a
    warning.

    Raises ValueError for what only the text API returns, and for options in which prompts of one
    call cannot differ.
    """
    for config in configs:
        if config.logprobs is not None:
            raise ValueError("logprobs is for complete() and stream(); here use output_logits=True")
        if config.negative_prompt is not None:
            raise ValueError(
                "negative_prompt is for complete() and stream(); here use negative_prompt_ids"
            )
    for name in ("return_dict_in_generate", *_OUTPUTS, "pad_token_id"):
        if len({getattr(config, name) for config in configs}) > 1:
            raise ValueError(f"{name} must be the same for all prompts of a call")
    asked = [name for name in _OUTPUTS if getattr(configs[0], name)]
    if not asked or configs[0].return_dict_in_generate:
        return configs
    warn(f"{' and '.join(asked)} has no effect without return_dict_in_generate=True")
    return [replace_options(config, dict.fromkeys(asked, False)) for config in configs]


def check_guidance(configs: Iterable[GenerationConfig], max_sequences: int) -> None:
    """Raise ValueError for guidance where two sequences cannot run together, or with drafts; warn
    of a negative prompt without it."""
    for config in configs:
        if config.negative_prompt is not None and not is_guided(config):
            warn("negative_prompt has no effect without guidance_scale")
        if is_guided(config) and config.prompt_lookup_num_tokens is not None:
            raise ValueError(
                f"prompt_lookup_num_tokens={config.prompt_lookup_num_tokens} cannot be used with "
                f"guidance_scale={config.guidance_scale}: leave one of them out"
            )
        if is_guided(config) and max_sequences < 2:
            raise ValueError(
                f"guidance_scale={config.guidance_scale} decodes a second sequence beside each "
                f"one, and max_sequences is 1: load the model with max_sequences=2 or more"
            )


def with_sampling_resolved(config: GenerationConfig, *, infer: bool) -> GenerationConfig:
    """Return ``config`` with ``do_sample`` True or False.

    infer: whether None means "sample if a sampling option is set" (the text API) or False
    (``generate()``). Warns of options that this way of decoding does not read; ValueError for more
    sequences of one prompt than it can give.
    """
    if config.num_beams > 1:
        _check_beams(config)
    elif unread := [name for name in _ONLY_WITH_BEAMS if getattr(config, name) != _PLAIN[name]]:
        warn(f"{' and '.join(unread)} has no effect without num_beams above 1")
    changed = config.changed_sampling_options
    do_sample = bool(changed) and infer if config.do_sample is None else config.do_sample
    if changed and not do_sample:
        kind = "decoding is greedy" if config.num_beams == 1 else "this is a beam search"
        warn(f"{', '.join(changed)} has no effect without do_sample=True: {kind}")
    for name, needed in config.options_without_effect:
        warn(f"{name} has no effect without {needed}")
    if config.num_return_sequences > 1 and not do_sample and config.num_beams == 1:
        raise ValueError(
            f"num_return_sequences={config.num_return_sequences} needs do_sample=True or "
            f"num_beams: greedy decoding gives the same sequence every time"
        )
    return config if config.do_sample is do_sample else replace(config, do_sample=do_sample)


def _check_beams(config: GenerationConfig) -> None:
    if is_guided(config):
        raise ValueError(
            f"guidance_scale={config.guidance_scale} cannot be used with "
            f"num_beams={config.num_beams}: set num_beams=1, or leave guidance_scale out"
        )
    if config.prompt_lookup_num_tokens is not None:
        raise ValueError(
            f"prompt_lookup_num_tokens={config.prompt_lookup_num_tokens} cannot be used with "
            f"num_beams={config.num_beams}: set num_beams=1, or leave prompt_lookup_num_tokens out"
        )
    if config.mirostat:
        raise ValueError(
            f"mirostat={config.mirostat} cannot be used with num_beams={config.num_beams}: it "
            f"follows one text, and beams are drawn from all; set num_beams=1, or mirostat=0"
        )
    if config.num_return_sequences > config.num_beams:
        raise ValueError(
            f"num_return_sequences={config.num_return_sequences} must be at most num_beams, which "
            f"is {config.num_beams}: a search finds as many texts as it has beams"
        )


def check_no_speculation(configs: Iterable[GenerationConfig]) -> None:
    """Raise ValueError for speculation in a call whose functions see one token of each sequence at
    a time."""
    for config in configs:
        if config.prompt_lookup_num_tokens is not None:
            raise ValueError(
                f"prompt_lookup_num_tokens={config.prompt_lookup_num_tokens} cannot be used with "
                f"logits_processor or stopping_criteria in generate(), which see a token of each "
                f"sequence at a time; use complete(), or leave one of them out"
            )


def check_streams(config: GenerationConfig) -> None:
    """Raise ValueError for a text that is not known before its end."""
    if config.num_beams > 1:
        raise ValueError(
            f"num_beams={config.num_beams} cannot be streamed: which text is the best is known "
            f"only at its end; use complete() or generate() without a streamer, or num_beams=1"
        )


def check_same_beams(configs: Sequence[GenerationConfig], max_sequences: int) -> None:
    """Raise ValueError for beams that cannot run: of prompts with options of their own, or more
    than there are sequences."""
    n_beams = max(config.num_beams for config in configs)
    if n_beams > 1 and any(config != configs[0] for config in configs):
        raise ValueError(
            f"num_beams={n_beams}: the prompts of a call with beams must have the same options; "
            f"pass one generation_config, or make a call for each"
        )
    if n_beams > max_sequences:
        raise ValueError(
            f"num_beams={n_beams} must be at most max_sequences, which is {max_sequences}: the "
            f"beams of a prompt are decoded together; load the model with a larger max_sequences"
        )


def check_option_ids(config: GenerationConfig, n_vocab: int) -> None:
    """Raise ValueError if an option names a token id outside the vocabulary."""
    words = cast("tuple[tuple[int, ...], ...]", config.bad_words_ids or ())
    biases = cast("tuple[tuple[tuple[int, ...], float], ...]", config.sequence_bias or ())
    listed = {
        "suppress_tokens": tuple(config.suppress_tokens or ()),
        "begin_suppress_tokens": tuple(config.begin_suppress_tokens or ()),
        "forced_eos_token_id": cast("tuple[int, ...]", config.forced_eos_token_id or ()),
        "forced_bos_token_id": _one_or_none(config.forced_bos_token_id),
        "pad_token_id": _one_or_none(config.pad_token_id),
        "bad_words_ids": [i for word in words for i in word],
        "sequence_bias": [i for ids, _ in biases for i in ids],
    }
    for name, ids in listed.items():
        check_ids(np.array(ids, np.int64), n_vocab, name)


def _one_or_none(token_id: int | None) -> tuple[int, ...]:
    return () if token_id is None else (token_id,)


def eos_token_ids(
    config: GenerationConfig, model_eos_ids: Iterable[int], n_vocab: int
) -> frozenset[int]:
    """Return the tokens that end a sequence: the caller's, or all that the model has."""
    if config.eos_token_id is None:
        return frozenset(model_eos_ids)
    ids = cast("tuple[int, ...]", config.eos_token_id)  # since __post_init__
    check_ids(np.array(ids, np.int64), n_vocab, "eos_token_id")
    return frozenset(ids)


def banned_token_ids(config: GenerationConfig) -> frozenset[int]:
    """Return the tokens that the options forbid whatever comes before them."""
    words = cast("tuple[tuple[int, ...], ...]", config.bad_words_ids or ())
    biases = cast("tuple[tuple[tuple[int, ...], float], ...]", config.sequence_bias or ())
    alone = [*words, *(ids for ids, bias in biases if bias == -math.inf)]
    return frozenset((*(config.suppress_tokens or ()), *(ids[0] for ids in alone if len(ids) == 1)))


def pad_token_id(config: GenerationConfig, model_pad_id: int | None, n_vocab: int) -> int | None:
    """Return what fills finished rows: the caller's pad token, or the model's if it has one."""
    if config.pad_token_id is None:
        return model_pad_id
    check_ids(np.array([config.pad_token_id]), n_vocab, "pad_token_id")
    return config.pad_token_id


def new_token_limit(config: GenerationConfig, n_prompt: int, length: int, n_ctx: int) -> int:
    """Return the most new tokens of one sequence.

    n_prompt: its real tokens. length: what ``max_length`` counts of it, padding included. The
    context's edge is a limit too. Raises ContextFullError if no token fits.
    """
    if n_prompt >= n_ctx:
        raise ContextFullError(n_prompt, n_ctx)
    limit = config.max_new_tokens
    if limit is None and config.max_length is not None:
        limit = config.max_length - length
        if limit < 1:
            raise ValueError(
                f"the input has {length} tokens and max_length is {config.max_length}: max_length "
                f"counts prompt and new tokens; raise it, or use max_new_tokens"
            )
    return min(limit or DEFAULT_MAX_NEW_TOKENS, n_ctx - n_prompt)


def guide_limit(limit: int, n_negative: int, n_ctx: int) -> int:
    """Return the most new tokens of a guided sequence, whose guide gets them too.

    n_negative: the tokens that the guide begins with. Raises ContextFullError if no token fits.
    """
    if n_negative >= n_ctx:
        raise ContextFullError(n_negative, n_ctx, "negative prompt")
    return min(limit, n_ctx - n_negative)


def warn_of_lengths(config: GenerationConfig) -> None:
    """Warn, as transformers does, of lengths that exclude each other."""
    if config.max_new_tokens is not None and config.max_length is not None:
        warn(
            f"both max_new_tokens (={config.max_new_tokens}) and max_length "
            f"(={config.max_length}) are set: max_new_tokens wins"
        )
    if (config.min_new_tokens or 0) > (config.max_new_tokens or math.inf):
        warn(
            f"min_new_tokens (={config.min_new_tokens}) is above max_new_tokens "
            f"(={config.max_new_tokens}), which wins: no end-of-sequence token is generated"
        )
    if config.min_new_tokens is not None and config.min_length:
        warn(
            f"both min_new_tokens (={config.min_new_tokens}) and min_length "
            f"(={config.min_length}) are set: min_new_tokens wins"
        )


def warn_of_prompt(config: GenerationConfig, n_prompt: int, limit: int) -> None:
    """Warn of options that mean nothing after a prompt of ``n_prompt`` tokens, which ``limit`` new
    ones can follow."""
    if config.forced_bos_token_id is not None and n_prompt > 1:
        warn(
            f"forced_bos_token_id (={config.forced_bos_token_id}) has no effect after prompts of "
            f"more than one token, as in transformers; to begin a text with a token, put it at the "
            f"end of the prompt"
        )
    if config.min_new_tokens is None and config.min_length > n_prompt + limit:
        warn(
            f"min_length (={config.min_length}) is above the tokens that a sequence of this call "
            f"can have: no end-of-sequence token is generated there"
        )


def stream_keys(
    configs: Sequence[GenerationConfig], n_prompts: int, fresh_seed: Callable[[], int]
) -> list[tuple[int, int]]:
    """Return the (seed, number) key of each sequence's random stream; see
    ``GenerationConfig.seed``.

    configs: one for all prompts, whose sequences are numbered through, or one each. The beams of a
    prompt have one stream, and what is returned of them has its key. fresh_seed: called where
    sequences are sampled without a seed.
    """
    if configs[0].num_beams > 1:
        keys = _keys(configs[0], n_prompts, fresh_seed)
        return [key for key in keys for _ in range(configs[0].num_return_sequences)]
    if len(configs) == 1:
        return _keys(configs[0], n_prompts * configs[0].num_return_sequences, fresh_seed)
    return [
        key for config in configs for key in _keys(config, config.num_return_sequences, fresh_seed)
    ]


def _keys(
    config: GenerationConfig, n_sequences: int, fresh_seed: Callable[[], int]
) -> list[tuple[int, int]]:
    seed = config.seed
    if isinstance(seed, tuple):
        if len(seed) != n_sequences:
            raise ValueError(
                f"seed has {len(seed)} entries for {n_sequences} sequences; give one int for the "
                f"call, or one for each sequence"
            )
        return [(each, 0) for each in seed]
    if seed is None:
        seed = fresh_seed() if config.do_sample else 0
    return [(cast("int", seed), number) for number in range(n_sequences)]


def fresh_seed(*, uses_torch: bool) -> int:
    """Return a seed that nobody has used: from torch's generator, so that ``torch.manual_seed``
    and transformers' ``set_seed`` repeat it, or else from the system."""
    return torch_seed() if uses_torch else secrets.randbits(64)
