"""Option names of other programs → localgen's names, or an error that says what to use instead."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields
from typing import Any, TypeVar

from localgen._util.arrays import plain
from localgen._util.suggestions import did_you_mean
from localgen.refused_options import REFUSED, WITHOUT_EFFECT

AnyConfig = TypeVar("AnyConfig")

# Generation options of transformers that localgen lacks → the values that change nothing. None
# always is one: it leaves an option unset in transformers, too.
NOOPS: Mapping[str, tuple[object, ...]] = {
    "assistant_early_exit": (),
    "assistant_tokenizer": (),
    "cache": (),
    "cache_config": (),
    "constraints": (),
    "continuous_batching_config": (),
    "custom_generate": (),
    "decoder_start_token_id": (),
    "diversity_penalty": (0.0,),
    "dola_layers": (),
    "force_words_ids": (),
    "inputs_embeds": (),
    "is_assistant": (False,),
    "low_memory": (False,),
    "negative_prompt_attention_mask": (),
    "negative_prompt_ids": (),
    "num_beam_groups": (1,),
    "output_attentions": (False,),
    "output_hidden_states": (False,),
    "past_key_values": (),
    "penalty_alpha": (0.0,),
    "position_ids": (),
    "speculation_type": (),
    "synced_gpus": (False,),
    "trust_remote_code": (False,),
    "use_model_defaults": (),
    "use_mtp": (False,),
    # The ways to keep keys and values that give the same text.
    "cache_implementation": (
        "dynamic",
        "static",
        "offloaded",
        "offloaded_static",
        "sliding_window",
        "hybrid",
    ),
    "use_cache": (True, False),
}

# Options that programs for transformers set to None to switch them off → the value that does so.
_UNSET: Mapping[str, float] = {
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "typical_p": 1.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
}

# Options with a number by default that transformers does not have, where None may mean it.
_NEVER_UNSET = ("frequency_penalty", "presence_penalty")

# Names in OpenAI's API, llama.cpp and other programs → localgen's names.
_OWN_NAMES = {
    "max_completion_tokens": "max_new_tokens",
    "max_output_tokens": "max_new_tokens",
    "max_tokens": "max_new_tokens",
    "n_predict": "max_new_tokens",
    "num_predict": "max_new_tokens",
    "min_tokens": "min_new_tokens",
    "stop": "stop_strings",
    "stop_sequences": "stop_strings",
    "stop_token_ids": "eos_token_id",
    "n": "num_return_sequences",
    "temp": "temperature",
    "typ_p": "typical_p",
    "typical": "typical_p",
    "repeat_penalty": "repetition_penalty",
    "dry_range": "dry_penalty_last_n",
    "dry_sequence_breaker": "dry_sequence_breakers",
    "dynatemp_exp": "dynatemp_exponent",
    "mirostat_ent": "mirostat_tau",
    "mirostat_lr": "mirostat_eta",
    "mirostat_mode": "mirostat",
    "nsigma": "top_n_sigma",
    "sampler_order": "samplers",
    "sampler_priority": "samplers",
    "sampler_seq": "samplers",
    "sampling_seq": "samplers",
    "logit_bias": "sequence_bias",
    "guided_choice": "choices",
    "guided_grammar": "grammar",
    "guided_json": "json_schema",
    "guided_regex": "regex",
    "output_schema": "json_schema",
    "pattern": "regex",
    "response_model": "json_schema",
    "response_schema": "json_schema",
    "schema": "json_schema",
    "top_logprobs": "logprobs",
    "random_seed": "seed",
    "context_length": "n_ctx",
    "ctx_size": "n_ctx",
    "max_model_len": "n_ctx",
    "max_seq_len": "n_ctx",
    "num_ctx": "n_ctx",
    "gpu_layers": "n_gpu_layers",
    "ngl": "n_gpu_layers",
    "num_threads": "n_threads",
    "threads": "n_threads",
    "batch_size": "n_batch",
    "ubatch_size": "n_ubatch",
    "max_num_seqs": "max_sequences",
    "n_parallel": "max_sequences",
    "n_seq_max": "max_sequences",
    "parallel": "max_sequences",
    "attn_implementation": "flash_attention",
    "flash_attn": "flash_attention",
    "cache_type_k": "kv_type",
    "cache_type_v": "kv_type",
    "type_k": "kv_type",
    "type_v": "kv_type",
}

# Options of calls in other programs that localgen lacks → what to do.
_PENALIZES_ALL = (
    "leave it out: penalties look at the whole text, as in transformers; only DRY has a limit, "
    "dry_penalty_last_n"
)
_NO_ADAPTIVE_P = "localgen has no adaptive-p sampler; mirostat=2 steers by the surprise of tokens"
_FORMATS = (
    "pass json_object=True for {'type': 'json_object'}, or the schema itself as json_schema for "
    "{'type': 'json_schema'}"
)
_REASONING = "pass reasoning='off', 'on', 'low', 'medium', 'high' or a number of tokens to chat()"
_CHAT = "it is an argument of chat(), chat_stream(), chat_prompt() and run_tools()"
_ROUNDS = "run_tools() takes max_rounds, the most replies"
_INSTEAD_IN_A_CALL = {
    "adaptive_decay": _NO_ADAPTIVE_P,
    "adaptive_target": _NO_ADAPTIVE_P,
    "echo": "join the prompt and the text, or use generate(), which returns both",
    "enable_thinking": _REASONING,
    "functions": f"pass tools=[...]; {_CHAT}",
    "function_call": f"pass tool_choice=; {_CHAT}",
    "ignore_eos": "pass eos_token_id=[], so that no token ends the text",
    "max_iterations": _ROUNDS,
    "max_step": _ROUNDS,
    "max_steps": _ROUNDS,
    "max_turns": _ROUNDS,
    "messages": "pass them as the first argument of chat()",
    "min_keep": "leave it out: each filter keeps at least one token",
    "parallel_tool_calls": _CHAT,
    "penalize_nl": "leave it out: newlines are penalized as all other tokens; sequence_bias can "
    "favor them",
    "penalty_last_n": _PENALIZES_ALL,
    "repeat_last_n": _PENALIZES_ALL,
    "reasoning": _REASONING,
    "reasoning_budget": _REASONING,
    "reasoning_effort": _REASONING,
    "reply_format": _CHAT,
    "response_format": _FORMATS,
    "stream": "use model.stream() or model.chat_stream()",
    "tfs_z": "llama.cpp has removed tail-free sampling; use min_p or typical_p",
    "thinking": _REASONING,
    "thinking_budget": _REASONING,
    "tool": f"pass tools=[...]; {_CHAT}",
    "tool_choice": _CHAT,
    "tools": _CHAT,
}

_TYPES_ARE_FIXED = (
    "the weights keep the types of the file; load a file of another level, such as 'org/repo:Q8_0'"
)
# Load options of other programs that localgen lacks → what to do.
_INSTEAD_AT_LOAD = {
    "cache_dir": "set HF_HUB_CACHE",
    "chat_format": "pass chat_template= to chat()",
    "device_map": "use device='auto', 'cpu', 'cuda' or 'metal', with n_gpu_layers if needed",
    "dtype": _TYPES_ARE_FIXED,
    "filename": "name the file in the source, as 'org/repo/file.gguf'",
    "gguf_file": "name the file in the source, as 'org/repo/file.gguf'",
    "load_in_4bit": _TYPES_ARE_FIXED,
    "load_in_8bit": _TYPES_ARE_FIXED,
    "logits_all": "leave it out: score(), logprobs=N and model(input_ids).logits need no option",
    "lora_path": "localgen has no adapters; merge it into the model, and convert that to GGUF",
    "low_cpu_mem_usage": "leave it out",
    "max_memory": "use n_gpu_layers for the weights and kv_budget for the KV cache",
    "quantization_config": _TYPES_ARE_FIXED,
    "token": "run hf auth login, or set HF_TOKEN",
    "torch_dtype": _TYPES_ARE_FIXED,
    "trust_remote_code": "leave it out: localgen never runs code from a model",
    "use_auth_token": "run hf auth login, or set HF_TOKEN",
    "use_mlock": "leave it out: localgen never locks memory",
    "use_mmap": "leave it out: llama.cpp maps the file into memory where the system can",
    "verbose": "leave it out: llama.cpp's messages go to the logger 'localgen.llama'",
}


# All option names: of loading (True) and of generating (False); ``names_checked`` fills it.
_NAMES: dict[bool, list[str]] = {True: [], False: []}


def names_checked(config: type[AnyConfig]) -> type[AnyConfig]:
    """Decorate a frozen config class so that its constructor explains unknown names, and setting an
    attribute says how to make another config.

    See ``normalize_options``.
    """
    build: Any = config.__init__
    names = [field.name for field in fields(config)]  # type: ignore[arg-type]
    loads = "n_ctx" in names
    _NAMES[loads] = names

    @functools.wraps(build)
    def checked(self: object, **options: Any) -> None:
        build(self, **normalize_options(options, loads=loads))

    def refuse(self: object, name: str, value: object) -> None:
        if name not in names:
            raise FrozenInstanceError(_refusal(name, loads))
        raise FrozenInstanceError(
            f"a {type(self).__name__} cannot be changed; make another one with "
            f"dataclasses.replace(config, {name}={value!r})"
        )

    config.__init__ = checked  # type: ignore[method-assign]
    config.__setattr__ = refuse  # type: ignore[method-assign]
    return config


def value_when_unset(name: str) -> object:
    """Return what an option that only transformers has is here: its no-op value, or None.

    Raises AttributeError for any other name.
    """
    if name in WITHOUT_EFFECT:
        return None
    if name in NOOPS:
        return next(iter(NOOPS[name]), None)
    raise AttributeError(_refusal(name, loads=False))


def normalize_options(options: Mapping[str, Any], *, loads: bool) -> dict[str, Any]:
    """Return ``options`` without those of transformers that are None or at a value that changes
    nothing.

    loads: whether they are options of loading a model, or of generating.
    Raises TypeError for any other unknown name, with a suggestion if there is one.
    """
    if loads:
        for name in options:
            if name not in _NAMES[True]:
                raise TypeError(_refusal(name, loads))
        return dict(options)
    known = {}
    for name, given in options.items():
        value = plain(given)
        if name not in _NAMES[False]:
            if not _changes_nothing(name, value):
                raise TypeError(_refusal(name, loads))
        elif value is not None or name in _NEVER_UNSET:
            known[name] = value
        elif name in _UNSET and options.get("do_sample"):
            # Without sampling, the default has no effect either.
            known[name] = _UNSET[name]
    return known


def _changes_nothing(name: str, value: object) -> bool:
    if name in WITHOUT_EFFECT:
        return True
    noops = NOOPS.get(name)
    return noops is not None and (value is None or any(_is_same(value, noop) for noop in noops))


def _is_same(value: object, noop: object) -> bool:
    """Whether a value is the no-op; True is no number, but 1 and 0 may stand for a flag."""
    if isinstance(noop, bool):
        return isinstance(value, int) and value == noop
    if isinstance(noop, int | float):
        return isinstance(value, int | float) and not isinstance(value, bool) and value == noop
    return type(value) is type(noop) and value == noop


def _refusal(name: str, loads: bool) -> str:
    instead = _INSTEAD_AT_LOAD if loads else _INSTEAD_IN_A_CALL
    if name in instead:
        return f"unknown option {name!r}: {instead[name]}"
    if name in NOOPS and not loads:
        noops = [*NOOPS[name], None]
        reason = f": {REFUSED[name]}" if name in REFUSED else ""
        return (
            f"localgen does not have transformers' option {name!r}{reason}; only its no-op value "
            f"{' or '.join(map(repr, noops))} is accepted"
        )
    return f"unknown option {name!r}{_hint(name, loads)}"


def own_name(name: str) -> str:
    """Return localgen's name of an option of another program; any other name as it is."""
    return _OWN_NAMES.get(name, name)


def _hint(name: str, loads: bool) -> str:
    own = own_name(name)
    if own in _NAMES[loads]:
        return f"; did you mean {own!r}?"
    if own in _NAMES[not loads]:
        place = "complete() and generate()" if loads else "from_pretrained()"
        return f"; {own!r} is an option of {place}"
    return did_you_mean(name, _NAMES[loads], n=1, shown=repr)
