"""model(input_ids): logits at their places, and the loss that transformers computes of labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from localgen.engine.sampling.filters import log_softmax
from tests.fakes import fake_model, hashed_letter, hashed_logits

IDS = np.array([[7, 7, 97, 98, 99], [65, 66, 67, 68, 69]])
MASK = np.array([[0, 0, 1, 1, 1], [1] * 5])


def logits_after(ids: list[int]) -> Any:
    return hashed_logits(ids, hashed_letter(ids))


def test_logits_to_keep() -> None:
    """The last places of the batch, padding included; 0 is all."""
    whole = fake_model()(IDS, MASK).logits
    assert whole.shape == (2, 5, 259)
    np.testing.assert_array_equal(whole[0, 3], logits_after([97, 98]))
    assert not whole[0, :2].any()
    for n in (1, 3, 4, 5, 9):
        kept = fake_model()(IDS, MASK, logits_to_keep=n).logits
        np.testing.assert_array_equal(kept, whole[:, -n:])
    with pytest.raises(ValueError, match="logits_to_keep must be at least 0"):
        fake_model()(IDS, logits_to_keep=-1)


def test_logits_to_keep_asks_for_no_other_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt of two passes; with labels, the loss needs all rows."""
    model = fake_model()  # whose passes have 16 tokens
    decode, n_rows = model.backend.decode, []

    def counted(batch: Any, should_stop: Any = None) -> Any:
        n_rows.append(len(batch.output_rows))
        return decode(batch, should_stop)

    monkeypatch.setattr(model.backend, "decode", counted)
    ids = np.arange(65, 85)[None]
    for n_kept in (2, 6):
        model(ids, logits_to_keep=n_kept)
    model(ids, labels=ids, logits_to_keep=1)
    assert n_rows == [0, 2, 2, 4, 16, 4]


def test_loss() -> None:
    """The mean over all rows of -log p of each label that counts; the first token never does."""
    labels = np.where(MASK == 0, -100, IDS)
    labels[1, :2] = -100
    given = [([97], 98), ([97, 98], 99), ([65, 66], 67), ([65, 66, 67], 68), (list(b"ABCD"), 69)]
    expected = -np.mean([log_softmax(logits_after(ids))[label] for ids, label in given])
    out = fake_model()(IDS, MASK, labels=labels)
    assert out.loss == pytest.approx(expected, rel=1e-6)
    assert [each.shape for each in out.to_tuple()] == [(), (2, 5, 259)]
    assert fake_model().forward(IDS, MASK).loss is None


def test_loss_of_no_label() -> None:
    """NaN, as torch's."""
    assert np.isnan(fake_model()([[65, 66]], labels=[[-100, -100]]).loss)
    assert np.isnan(fake_model()([[65]], labels=[[65]]).loss)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (IDS, "labels must be -100 where attention_mask is 0"),
        (IDS[:, 1:], r"labels must be integers of the shape of input_ids, \(2, 5\)"),
        (IDS * 1.0, "labels must be integers"),
        (np.full((2, 5), 300), "labels: token id 300 is outside the vocabulary"),
    ],
)
def test_bad_labels(labels: Any, message: str) -> None:
    """Before anything is computed."""
    model = fake_model()
    with pytest.raises(ValueError, match=message):
        model(IDS, MASK, labels=labels)
    assert not model.backend.calls


def test_torchs_own_loss() -> None:
    torch = pytest.importorskip("torch")
    ids, mask = torch.tensor(IDS), torch.tensor(MASK)
    labels = ids.masked_fill(mask == 0, -100)
    labels[0, 2] = -100  # the first token, which transformers predicts from padding
    out = fake_model()(ids, mask, labels=labels)
    shifted = out.logits[:, :-1].reshape(-1, 259), labels[:, 1:].reshape(-1)
    expected = torch.nn.functional.cross_entropy(*shifted)
    assert out.loss.shape == ()
    assert out.loss.item() == pytest.approx(expected.item(), rel=1e-6)
