"""Beam search written straight from transformers' definitions: slow, whole matrices, no cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Row = np.ndarray[Any, Any]


class Text(NamedTuple):
    """New tokens, their score, and the beam that each of them continued."""

    token_ids: list[int]
    score: float
    beams: list[int]


def log_softmax(logits: Row) -> Row:
    shifted = logits.astype(np.float64) - float(logits.max())
    return (shifted - np.log(np.exp(shifted).sum())).astype(np.float32)


def beam_search(
    logprobs: Callable[[list[int]], Row],
    *,
    num_beams: int,
    max_new_tokens: int,
    eos: Sequence[int] = (),
    length_penalty: float = 1.0,
    early_stopping: bool | str = False,
    num_return_sequences: int = 1,
) -> list[Text]:
    """Search one prompt. logprobs: of the next token after given new tokens, float32 (n_vocab,)."""
    n_kept = max(2, 1 + len(eos)) * num_beams
    low = np.float32(-1e9)
    beams: list[Text] = [Text([], 0.0 if i == 0 else float(low), []) for i in range(num_beams)]
    done: list[tuple[Text, bool]] = [(Text([], float(low), []), False)] * num_beams
    for length in range(1, max_new_tokens + 1):
        sums = np.concatenate([logprobs(beam.token_ids) + np.float32(beam.score) for beam in beams])
        n_vocab = len(sums) // num_beams
        best = np.argsort(-sums, kind="stable")[:n_kept]
        candidates = [
            Text(
                [*beams[i // n_vocab].token_ids, int(i % n_vocab)],
                float(sums[i]),
                [*beams[i // n_vocab].beams, int(i // n_vocab)],
            )
            for i in best
        ]
        ends = [text.token_ids[-1] in eos or length == max_new_tokens for text in candidates]
        running = [
            text._replace(score=text.score + low * end)
            for text, end in zip(candidates, ends, strict=True)
        ]
        beams = sorted(running, key=lambda text: -text.score)[:num_beams]
        merged = list(done)
        for place, (text, end) in enumerate(zip(candidates, ends, strict=True)):
            if end and place < num_beams:
                merged.append((text._replace(score=text.score / length**length_penalty), True))
        done = sorted(merged, key=lambda pair: -pair[0].score)[:num_beams]
        is_full = all(finished for _, finished in done)
        longest = early_stopping == "never" and length_penalty > 0
        best_score = beams[0].score / (max_new_tokens if longest else length) ** length_penalty
        worst = done[-1][0].score if is_full else float(low)
        if best_score <= worst or (is_full and early_stopping is True) or all(ends):
            break
    return [text for text, _ in done[:num_return_sequences]]
