"""When a sequence ends: EOS, then its trackers and its own checks, then its length.

Stop strings are a tracker: ``generation.text_tracker``, ``text.detokenizer``.
"""

from __future__ import annotations

from localgen.engine.sequence import FinishReason, Sequence


def finish_reason(sequence: Sequence) -> FinishReason | None:
    """Return why a sequence ends with the token it just accepted; None if it continues."""
    reason = ended_by(sequence)
    if reason in ("eos", "stop"):
        return reason
    for check in sequence.stop_checks:
        if check(sequence):
            return "stop"
    return reason


def ended_by(sequence: Sequence) -> FinishReason | None:
    """Return why a sequence with new tokens ends by these alone, whatever its own checks say."""
    if sequence.last_token in sequence.eos_token_ids:
        return "eos"
    for tracker in sequence.trackers:
        if tracker.stops:
            return "stop"
    if sequence.n_tokens == len(sequence.tokens):  # there is room for max_new_tokens
        return "length"
    return None
