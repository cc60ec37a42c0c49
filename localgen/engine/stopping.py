"""When a row ends, decided on token ids: EOS, then the row's own checks, then its length."""

from __future__ import annotations

from localgen.engine.sequence import FinishReason, Sequence


def finish_reason(sequence: Sequence) -> FinishReason | None:
    """Why the row ends with the token that was just appended, or None if it goes on."""
    if sequence.last_token in sequence.eos_token_ids:
        return "eos"
    for check in sequence.stop_checks:
        if check(sequence):
            return "stop"
    if sequence.n_tokens == len(sequence.tokens):  # there is room for max_new_tokens
        return "length"
    return None
