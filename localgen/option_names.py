"""Option names of other programs → localgen's names, or an error that says what to use instead."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

AnyConfig = TypeVar("AnyConfig")

# Generation options of transformers that localgen lacks → their no-op value, if they have one. None
# is always a no-op: it leaves an option unset in transformers, too.
_ONLY_IN_TRANSFORMERS: Mapping[str, bool | float | None] = {
    "assistant_early_exit": None,
    "assistant_model": None,
    "assistant_tokenizer": None,
    "begin_suppress_tokens": None,
    "bos_token_id": None,
    "cache_config": None,
    "cache_implementation": None,
    "constraints": None,
    "custom_generate": None,
    "decoder_start_token_id": None,
    "diversity_penalty": 0.0,
    "dola_layers": None,
    "early_stopping": False,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "exponential_decay_length_penalty": None,
    "force_words_ids": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "guidance_scale": 1.0,
    "inputs_embeds": None,
    "length_penalty": 1.0,
    "low_memory": False,
    "min_length": 0,
    "negative_prompt_attention_mask": None,
    "negative_prompt_ids": None,
    "num_beam_groups": 1,
    "num_beams": 1,
    "output_attentions": False,
    "output_hidden_states": False,
    "past_key_values": None,
    "penalty_alpha": None,
    "position_ids": None,
    "prefill_chunk_size": None,
    "prefix_allowed_tokens_fn": None,
    "prompt_lookup_num_tokens": None,
    "remove_invalid_values": False,
    "renormalize_logits": False,
    "synced_gpus": False,
    "token_healing": False,
    "use_cache": True,
    "use_model_defaults": None,
    "watermarking_config": None,
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
    "logit_bias": "sequence_bias",
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
    "low_cpu_mem_usage": "leave it out",
    "max_memory": "use n_gpu_layers for the weights and kv_budget for the KV cache",
    "quantization_config": _TYPES_ARE_FIXED,
    "token": "run hf auth login, or set HF_TOKEN",
    "torch_dtype": _TYPES_ARE_FIXED,
    "trust_remote_code": "leave it out: localgen never runs code from a model",
    "use_auth_token": "run hf auth login, or set HF_TOKEN",
}


# All option names: of loading (True) and of generating (False); ``names_checked`` fills it.
_NAMES: dict[bool, list[str]] = {True: [], False: []}


def names_checked(config: type[AnyConfig]) -> type[AnyConfig]:
    """Decorate a config class so that its constructor explains unknown names.

    See ``normalize_options``.
    """
    build: Any = config.__init__
    names = [field.name for field in fields(config)]  # type: ignore[arg-type]
    loads = "n_ctx" in names
    _NAMES[loads] = names

    @functools.wraps(build)
    def checked(self: object, **options: Any) -> None:
        build(self, **normalize_options(options, loads=loads))

    config.__init__ = checked  # type: ignore[method-assign]
    return config


def normalize_options(options: Mapping[str, Any], *, loads: bool) -> dict[str, Any]:
    """Return ``options`` without options of transformers that are at their no-op value.

    loads: whether they are options of loading a model, or of generating.
    Raises TypeError for any other unknown name, with a suggestion if there is one.
    """
    known = {}
    for name, value in options.items():
        if value is None and name in _UNSET and not loads:
            # Without sampling, the default has no effect either.
            if options.get("do_sample"):
                known[name] = _UNSET[name]
        elif name in _NAMES[loads]:
            known[name] = value
        elif loads or not _is_noop(name, value):
            raise TypeError(_refusal(name, loads))
    return known


def _is_noop(name: str, value: object) -> bool:
    if name not in _ONLY_IN_TRANSFORMERS:
        return False
    noop = _ONLY_IN_TRANSFORMERS[name]
    if value is None or noop is None or isinstance(noop, bool):
        return value is None or value is noop
    return isinstance(value, int | float) and not isinstance(value, bool) and value == noop


def _refusal(name: str, loads: bool) -> str:
    if loads and name in _INSTEAD_AT_LOAD:
        return f"unknown option {name!r}: {_INSTEAD_AT_LOAD[name]}"
    if name in _ONLY_IN_TRANSFORMERS and not loads:
        return (
            f"localgen does not have transformers' option {name!r}; only its no-op value "
            f"{_ONLY_IN_TRANSFORMERS[name]} is accepted"
        )
    return f"unknown option {name!r}{_hint(name, loads)}"


def _hint(name: str, loads: bool) -> str:
    own = _OWN_NAMES.get(name, name)
    if own in _NAMES[loads]:
        return f"; did you mean {own!r}?"
    if own in _NAMES[not loads]:
        place = "complete() and generate()" if loads else "from_pretrained()"
        return f"; {own!r} is an option of {place}"
    near = difflib.get_close_matches(name, _NAMES[loads], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
