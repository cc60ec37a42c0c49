"""What sequences still have to compute, for a backend that adapts to it."""

from __future__ import annotations

from collections.abc import Iterable

from localgen.engine.backend import Work
from localgen.engine.sequence import Sequence


def work_of(sequences: Iterable[tuple[Sequence, int]], n_batch: int) -> Work | None:
    """Return the work of sequences that run or wait, each with how many of its tokens need not be
    computed; None if one of them is only evaluated.

    Sequences decode together as far as a pass of ``n_batch`` tokens allows.
    """
    n_prompt = n_left = n_tokens = n_all = 0
    has_deadline = False
    for sequence, n_done in sequences:
        n_new = len(sequence.tokens) - sequence.n_tokens
        if sequence.is_evaluated or (not n_new and not sequence.n_new):
            return None
        n_left += n_new
        n_tokens += sequence.n_tokens
        n_all += 1
        has_deadline |= sequence.deadline is not None
        if sequence.n_tokens - n_done > 1:  # else it decodes
            n_prompt += sequence.n_tokens - n_done
    n_rows = max(1, min(n_all, n_batch))
    return Work(
        n_prompt,
        n_rows,
        depth=n_tokens // max(1, n_all),
        n_steps=-(-n_left // n_rows),
        has_deadline=has_deadline,
    )
