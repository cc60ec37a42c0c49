"""What other programs call an option → what it is here, or why it is not."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

AnyConfig = TypeVar("AnyConfig")

# transformers' options of generating that localgen lacks → the value, if any, that asks for what
# localgen does anyway. Given as None, an option is not set, in transformers too.
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

# transformers' options that programs set to None, so that they change nothing → what does not.
_UNSET: Mapping[str, float] = {
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "typical_p": 1.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
}

# Names that people know from OpenAI's API, llama.cpp and other programs → localgen's.
_CALLED_HERE = {
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

_FILE_S_TYPES = (
    "the weights keep the types that are in the file; name a file of another level, as "
    "'org/repo:Q8_0'"
)
# What a load takes elsewhere and not here → what to do.
_INSTEAD_AT_LOAD = {
    "cache_dir": "set HF_HUB_CACHE",
    "chat_format": "pass chat_template= to chat()",
    "device_map": "use device='auto', 'cpu', 'cuda' or 'metal', perhaps with n_gpu_layers",
    "dtype": _FILE_S_TYPES,
    "filename": "name the file in the source, as 'org/repo/file.gguf'",
    "gguf_file": "name the file in the source, as 'org/repo/file.gguf'",
    "load_in_4bit": _FILE_S_TYPES,
    "load_in_8bit": _FILE_S_TYPES,
    "low_cpu_mem_usage": "leave it out",
    "max_memory": "use n_gpu_layers for the weights and kv_budget for the KV cache",
    "quantization_config": _FILE_S_TYPES,
    "token": "run hf auth login, or set HF_TOKEN",
    "torch_dtype": _FILE_S_TYPES,
    "trust_remote_code": "leave it out: no code of a model is ever run",
    "use_auth_token": "run hf auth login, or set HF_TOKEN",
}


# The options that there are, of loading (True) and of generating (False), by ``names_checked``.
_NAMES: dict[bool, list[str]] = {True: [], False: []}


def names_checked(config: type[AnyConfig]) -> type[AnyConfig]:
    """A config class whose constructor tells of unknown names; see ``normalize_options``."""
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
    """``options`` without those of transformers' whose value asks for nothing.

    loads: whether they are of loading a model, or of generating.
    Raises TypeError for any other name, with what to write instead where that is known.
    """
    known = {}
    for name, value in options.items():
        if value is None and name in _UNSET and not loads:
            # Where nothing is sampled, a default does what no option does.
            if options.get("do_sample"):
                known[name] = _UNSET[name]
        elif name in _NAMES[loads]:
            known[name] = value
        elif loads or not _asks_for_nothing(name, value):
            raise TypeError(_refusal(name, loads))
    return known


def _asks_for_nothing(name: str, value: object) -> bool:
    if name not in _ONLY_IN_TRANSFORMERS:
        return False
    nothing = _ONLY_IN_TRANSFORMERS[name]
    if value is None or nothing is None or isinstance(nothing, bool):
        return value is None or value is nothing
    return isinstance(value, int | float) and not isinstance(value, bool) and value == nothing


def _refusal(name: str, loads: bool) -> str:
    if loads and name in _INSTEAD_AT_LOAD:
        return f"unknown option {name!r}: {_INSTEAD_AT_LOAD[name]}"
    if name in _ONLY_IN_TRANSFORMERS and not loads:
        return (
            f"transformers has the option {name!r}, localgen does not; it is accepted only as "
            f"{_ONLY_IN_TRANSFORMERS[name]}, which asks for nothing"
        )
    return f"unknown option {name!r}{_hint(name, loads)}"


def _hint(name: str, loads: bool) -> str:
    here = _CALLED_HERE.get(name, name)
    if here in _NAMES[loads]:
        return f"; did you mean {here!r}?"
    if here in _NAMES[not loads]:
        place = "complete() and generate()" if loads else "from_pretrained()"
        return f"; {here!r} is an option of {place}"
    near = difflib.get_close_matches(name, _NAMES[loads], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
