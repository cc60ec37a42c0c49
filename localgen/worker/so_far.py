"""What had come of a call whose worker has ended: completions from updates alone."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from localgen._util.arrays import to_torch
from localgen.completion import Completion, GenerateOutput, Stats
from localgen.generation.inputs import pad_right
from localgen.worker.calls import RemoteCall, RowSoFar


def completions_so_far(call: RemoteCall) -> list[Completion]:
    """Return what has come of each row; empty if the call had not begun.

    Of ``stats``, the worker's part is unknown: its seconds are 0.
    """
    return [
        _completion(call, call.rows.get(index, RowSoFar()), prompt)
        for index, prompt in enumerate(call.prompts)
    ]


def output_so_far(call: RemoteCall, *, uses_torch: bool) -> Any:
    """Return what has come of ``generate()``; None if it had not begun."""
    if call.facts is None:
        return None
    prompts, pad_token_id, _ = call.facts
    rows = [call.rows.get(index, RowSoFar()) for index in range(len(prompts))]
    new = pad_right([np.array(row.token_ids, np.int32) for row in rows], pad_token_id)
    sequences = np.concatenate([prompts, new], axis=1)
    return GenerateOutput(
        sequences=to_torch(sequences) if uses_torch else sequences,
        scores=None,
        logits=None,
        finish_reasons=[row.finish_reason or "cancelled" for row in rows],
        stats=[
            _stats(call, row, len(np.frombuffer(prompt, np.int32)))
            for row, prompt in zip(rows, call.prompts, strict=True)
        ],
    )


def _completion(call: RemoteCall, row: RowSoFar, prompt: bytes) -> Completion:
    reply = row.reply.reply
    prompt_ids = np.frombuffer(prompt, np.int32).tolist()
    return Completion(
        text=reply.text,
        reasoning=reply.reasoning,
        tool_calls=reply.tool_calls,
        token_ids=list(row.token_ids),
        prompt_token_ids=prompt_ids,
        finish_reason=row.finish_reason or "cancelled",
        stop_match=None,
        logprobs=list(row.logprobs) or None,
        stats=_stats(call, row, len(prompt_ids)),
    )


def _stats(call: RemoteCall, row: RowSoFar, n_prompt: int) -> Stats:
    n_new = len(row.token_ids)
    speed = None
    if row.first_at is not None and row.last_at is not None and row.last_at > row.first_at:
        speed = (n_new - 1) / (row.last_at - row.first_at)
    wall = time.perf_counter() - call.started
    return Stats(
        n_prompt=n_prompt,
        n_cached=0,
        cache_miss_reason=None,
        n_new=n_new,
        prefill_seconds=0.0,
        decode_seconds=0.0,
        sample_seconds=0.0,
        draft_seconds=0.0,
        text_seconds=0.0,
        overhead_seconds=0.0,
        wait_seconds=wall,
        wall_seconds=wall,
        ttft=None if row.first_at is None else row.first_at - call.started,
        tokens_per_second=speed,
        n_rows=len(call.prompts),
        n_threads=0,
        n_passes=0,
        n_drafted=0,
        n_accepted=0,
        n_forced=0,
        no_speculation_because=None,
        kv_unified=False,
        flash_attention=None,
        attention_kept_because=None,
        seed=None,
        seed_row=0,
    )
