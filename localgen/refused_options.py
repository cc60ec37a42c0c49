"""Why localgen refuses an option of transformers, or why it changes nothing here.

The reasons are parts of sentences: of error messages, and of docs/generation-options.md.
"""

from __future__ import annotations

from collections.abc import Mapping

_SPECULATION = "localgen drafts with assistant_model or prompt_lookup_num_tokens only"
_NO_CODE = "localgen never runs code from a model's repository; pass a logits_processor"
_BY_ITSELF = (
    "localgen reuses what it computed by itself: a prompt that begins like an earlier one computes "
    "only the rest; prefill() pins a beginning, and save_session() keeps it for another process"
)
_FOR_GENERATE = "it is an argument of generate(); complete() and stream() take negative_prompt"
_ENCODER = "it is for encoder-decoder models"
_NEEDS_ASSISTANT = "only other ways of speculative decoding read it, which localgen does not have"
_CACHE_IS_OWN = (
    "llama.cpp has its own KV cache; choose its type and size with kv_type, n_ctx and kv_budget "
    "when you load the model"
)
_COMPILED = "llama.cpp's kernels are compiled already"
_RECORDS = "it only records where a config came from"

# Option → why its other values are refused.
REFUSED: Mapping[str, str] = {
    "assistant_early_exit": _SPECULATION,
    "assistant_tokenizer": _SPECULATION,
    "cache": _BY_ITSELF,
    "cache_config": _CACHE_IS_OWN,
    "cache_implementation": _CACHE_IS_OWN,
    "constraints": "constrained beam search has left transformers; pass json_schema, regex, "
    "choices or grammar, or a logits_processor",
    "continuous_batching_config": "all calls of a model run in one continuous batch anyway; see "
    "max_sequences",
    "custom_generate": _NO_CODE,
    "decoder_start_token_id": _ENCODER,
    "diversity_penalty": "group beam search has left transformers; use num_beams, or sample with "
    "num_return_sequences",
    "dola_layers": "DoLa has left transformers, and llama.cpp does not return the logits of inner "
    "layers",
    "force_words_ids": "constrained beam search has left transformers; pass a logits_processor, or "
    "prefix_allowed_tokens_fn",
    "inputs_embeds": "a prompt is token ids or text",
    "is_assistant": _SPECULATION,
    "low_memory": "a batch is as large as max_sequences and n_batch allow, and beams share cells "
    "of the KV cache",
    "negative_prompt_attention_mask": _FOR_GENERATE,
    "negative_prompt_ids": _FOR_GENERATE,
    "num_beam_groups": "group beam search has left transformers; use num_beams, or sample with "
    "num_return_sequences",
    "output_attentions": "llama.cpp does not return attention weights",
    "output_hidden_states": "llama.cpp does not return the hidden states of layers",
    "past_key_values": _BY_ITSELF,
    "penalty_alpha": "contrastive search has left transformers, and llama.cpp does not return the "
    "hidden states that it compares",
    "position_ids": "positions follow from the tokens; attention_mask says where padding is",
    "speculation_type": _SPECULATION,
    "synced_gpus": "it keeps several processes in step, and a model here has one",
    "trust_remote_code": _NO_CODE,
    "use_cache": "the KV cache is always used; results are the same",
    "use_model_defaults": "calls start from model.generation_config, which you can set",
    "use_mtp": _SPECULATION,
}

# Option → why it changes nothing, whatever its value.
WITHOUT_EFFECT: Mapping[str, str] = {
    "_commit_hash": _RECORDS,
    "_from_model_config": _RECORDS,
    "_original_object_hash": _RECORDS,
    "assistant_ensemble_weight": _NEEDS_ASSISTANT,
    "assistant_lookbehind": _NEEDS_ASSISTANT,
    "bos_token_id": "only a call without a prompt reads it, and here a prompt is needed",
    "compile_config": _COMPILED,
    "disable_compile": _COMPILED,
    "max_cache_len": "the KV cache grows with what runs, up to kv_budget",
    "prefill_chunk_size": "a long prompt is always computed in parts, of n_batch tokens",
    "return_legacy_cache": "no cache is returned",
    "target_lookbehind": _NEEDS_ASSISTANT,
    "transformers_version": _RECORDS,
}
