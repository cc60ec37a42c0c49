"""The result of ``model(input_ids)``: logits at their places, and the loss of labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from localgen._util.arrays import check_ids, to_numpy, to_torch
from localgen.completion import ForwardOutput
from localgen.engine.backend import Logits
from localgen.engine.sampling.filters import log_softmax
from localgen.generation.inputs import Mask, Matrix, Prompts

# What transformers skips in a loss.
_IGNORED = -100


def checked_labels(labels: Any, prompts: Prompts, n_vocab: int) -> Matrix | None:
    """Return ``labels`` as int64 (rows, length).

    Raises ValueError unless they are token ids or -100, and -100 at padding.
    """
    if labels is None:
        return None
    assert prompts.mask is not None
    matrix = np.asarray(to_numpy(labels))
    matrix = matrix[None, :] if matrix.ndim == 1 else matrix
    if matrix.dtype.kind not in "iu" or matrix.shape != prompts.mask.shape:
        raise ValueError(
            f"labels must be integers of the shape of input_ids, {prompts.mask.shape}, got "
            f"{matrix.dtype} {matrix.shape}"
        )
    counted = matrix != _IGNORED
    check_ids(matrix[counted], n_vocab, "labels")
    if (counted & ~prompts.mask).any():
        raise ValueError(
            "labels must be -100 where attention_mask is 0, as "
            "labels.masked_fill(attention_mask == 0, -100)"
        )
    return matrix.astype(np.int64)


def forward_output(
    prompts: Prompts,
    logits: list[Logits],
    n_vocab: int,
    labels: Matrix | None = None,
    logits_to_keep: int = 0,
) -> ForwardOutput:
    """Return the logits of each row's tokens, (n, n_vocab), at their places in the batch.

    labels: of ``checked_labels``. logits_to_keep: of how many places at the end; 0 is all.
    """
    assert prompts.mask is not None
    kept: Mask = prompts.mask[:, -logits_to_keep:]
    matrix = np.zeros((*kept.shape, n_vocab), np.float32)
    for target, mask, row in zip(matrix, kept, logits, strict=True):
        target[mask] = row[len(row) - np.count_nonzero(mask) :]
    loss = None if labels is None else _loss(prompts.mask, logits, labels)
    if not prompts.is_torch:
        return ForwardOutput(loss=loss, logits=matrix)
    if loss is not None:
        loss = to_torch(loss).reshape(())
    return ForwardOutput(loss=loss, logits=to_torch(matrix))


def _loss(mask: Mask, logits: list[Logits], labels: Matrix) -> Any:
    """Return the mean of -log p of each label after the tokens before it, float32 ()."""
    losses = [np.zeros(0, np.float32)]
    for places, row, wanted in zip(mask, logits, labels, strict=True):
        targets = wanted[places][1:]  # the first token has none before it
        counted = np.flatnonzero(targets != _IGNORED)
        logprobs = log_softmax(row[counted])
        losses.append(-logprobs[np.arange(len(counted)), targets[counted]])
    with np.errstate(invalid="ignore"):  # of no label at all: NaN, as torch's
        return np.concatenate(losses).sum(dtype=np.float64).astype(np.float32) / np.float32(
            sum(map(len, losses))
        )
