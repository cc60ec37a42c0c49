"""Mixtures of a tiny model: what is written for a target, what is refused, what is left behind."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import gguf
import pytest

from localgen import QuantizedMixture, QuantizeError, imatrix, quantize
from localgen.mixtures.mixer import Mixer
from localgen.mixtures.search import Search
from models.make_tiny import make_llama_bpe
from tests.cli.test_generate import localgen_command
from tests.shards import write_shards

pytestmark = pytest.mark.slow

SHORT: dict[str, Any] = {"n_ctx": 32, "n_chunks": 1, "n_threads": 1}


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def of_a_size(tiny_bpe_path: Path, tmp_path_factory: pytest.TempPathFactory) -> QuantizedMixture:
    folder = tmp_path_factory.mktemp("size")
    return quantize(tiny_bpe_path, target_size="90kB", output=folder, **SHORT)


def test_a_size_is_kept_and_nearly_used(of_a_size: QuantizedMixture) -> None:
    path = of_a_size.file.path
    assert path.name == "tiny-bpe-90kB.gguf"
    assert left_in(path.parent) == [path.name]
    assert 80_000 < path.stat().st_size == of_a_size.file.n_bytes <= 90_000


def test_the_groups_have_the_types_that_are_reported(of_a_size: QuantizedMixture) -> None:
    types = {t.name: t.tensor_type.name for t in gguf.GGUFReader(of_a_size.file.path).tensors}
    assert types["token_embd.weight"] == of_a_size.groups["token_embd"]
    assert types["blk.0.ffn_up.weight"] == of_a_size.groups["ffn_up_gate.early"]
    assert types["blk.1.attn_k.weight"] == of_a_size.groups["attn_qk.middle"]


def test_the_result_is_measured_beside_the_level_below(of_a_size: QuantizedMixture) -> None:
    below = of_a_size.below
    assert below is not None
    assert below.n_bytes <= of_a_size.file.n_bytes
    assert below.difference.value == pytest.approx(below.kld.value - of_a_size.kld.value)
    assert of_a_size.kld.value > 0


def test_a_loss_is_reached(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """The smaller the loss, the larger the file."""
    losses: list[tuple[str, float]] = []
    measure = Search._measure

    def noted(self: Any, meter: Any, mixture: Any) -> float:
        loss = measure(self, meter, mixture)
        losses.append((self._target.label, loss))
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Search, "_measure", noted)
        small = quantize(tiny_bpe_path, target_kld=0.5, output=tmp_path, **SHORT)
        large = quantize(tiny_bpe_path, target_kld=0.02, output=tmp_path, **SHORT)
    assert left_in(tmp_path) == ["tiny-bpe-KLD0.02.gguf", "tiny-bpe-KLD0.5.gguf"]
    assert small.file.n_bytes < large.file.n_bytes
    assert min(loss for label, loss in losses if label == "KLD0.02") <= 0.02


def test_losses_are_measured_once(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """Another target takes them from the file: the groups are not written again."""
    kept = {"losses": tmp_path / "losses.json", "output": tmp_path, **SHORT}
    quantize(tiny_bpe_path, target_size="90kB", **kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mixer, "try_mixture", None)
        done = quantize(tiny_bpe_path, target_size="100kB", **kept)
        with pytest.raises(QuantizeError, match="with a different n_ctx"):
            quantize(tiny_bpe_path, target_size="100kB", **{**kept, "n_ctx": 40})
    assert 90_000 < done.file.n_bytes <= 100_000


def test_shards_are_kept(tiny_bpe_path: Path, tmp_path: Path) -> None:
    source = write_shards(tiny_bpe_path, tmp_path)[0]
    done = quantize(source, target_size="90kB", keep_split=True, output=tmp_path / "made", **SHORT)
    assert left_in(tmp_path / "made") == [f"split-90kB-0000{i}-of-00002.gguf" for i in (1, 2)]
    assert sum(path.stat().st_size for path in done.file.paths) == done.file.n_bytes <= 90_000


# --- what is refused ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give levels, such as 'Q4_K_M', or target_size or target_kld"),
        ({"target_size": "1MB", "target_kld": 1.0}, "not both"),
        ({"levels": "Q8_0", "target_size": "1MB"}, "target_size cannot be used with levels"),
        ({"levels": "Q8_0", "n_chunks": 1}, "n_chunks cannot be used with levels"),
        ({"target_kld": 1.0, "pure": True}, "pure cannot be used with a target"),
        ({"target_kld": 1.0, "tensor_types": {"a": "F16"}}, "tensor_types cannot be used"),
        ({"target_kld": 1.0, "n_chunks": 0}, "n_chunks must be between 1"),
        ({"target_kld": 1.0, "n_threads": 0}, "n_threads must be between 1 and 512"),
    ],
)
def test_options_that_do_not_go_together(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        quantize(tmp_path / "none.gguf", output=tmp_path / "made", **options)
    assert not left_in(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_size": "50kB"}, r"target_size=50kB cannot be reached: the smallest mixture has"),
        ({"target_size": "1GB"}, "target_size=1GB is no smaller than the source itself"),
        ({"target_size": "90kB", "text": "short"}, r"\d+ tokens, and a search needs 64"),
        ({"target_kld": 1e-300}, "target_kld=1e-300 cannot be reached: the nearest mixture"),
        ({"target_kld": 1.0, "keep_split": True}, "keep_split=True has no effect"),
    ],
)  # fmt: skip
def test_targets_that_cannot_be_reached(
    options: dict[str, Any], message: str, tiny_bpe_path: Path, tmp_path: Path
) -> None:
    with pytest.raises(QuantizeError, match=message):
        quantize(tiny_bpe_path, output=tmp_path, **options, **SHORT)
    assert not left_in(tmp_path)


def test_a_target_at_the_border_is_reached(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """The smallest size that the message names can be had, and is nearly what the file has."""
    with pytest.raises(QuantizeError, match=r"\(\d+ bytes\)\. Give at least that\.$") as caught:
        quantize(tiny_bpe_path, target_size="1B", output=tmp_path, **SHORT)
    least = int(str(caught.value).split("(")[1].split()[0])
    done = quantize(tiny_bpe_path, target_size=least, output=tmp_path, **SHORT)
    assert least - 600 < done.file.n_bytes <= least


def test_a_small_loss_is_reached_by_the_mildest_mixture(
    tiny_bpe_path: Path, tmp_path: Path
) -> None:
    """The prediction had none but the source itself, and the search gave up."""
    done = quantize(tiny_bpe_path, target_kld=1e-4, output=tmp_path, **SHORT)
    assert done.file.n_bytes < tiny_bpe_path.stat().st_size
    kept = tmp_path / "losses.json"
    with pytest.raises(QuantizeError, match="cannot be reached"):
        quantize(tiny_bpe_path, target_kld=1e-300, output=tmp_path, losses=kept, **SHORT)
    least = min(loss for _, loss in json.loads(kept.read_text("utf-8"))["losses"])
    again = quantize(tiny_bpe_path, target_kld=2 * least, output=tmp_path, losses=kept, **SHORT)
    assert again.file.n_bytes < tiny_bpe_path.stat().st_size


def test_a_context_beyond_the_models_training_is_refused(
    tiny_bpe_path: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="n_ctx=1024 exceeds the 512 tokens"):
        quantize(tiny_bpe_path, target_kld=1.0, n_ctx=1024, imatrix="auto", output=tmp_path)
    assert not left_in(tmp_path)


def test_no_matrix_is_made_for_a_target_that_cannot_be_reached(
    tiny_bpe_path: Path, tmp_path: Path
) -> None:
    """That would take minutes; the sizes are known at once."""
    with pytest.raises(QuantizeError, match="cannot be reached"):
        quantize(tiny_bpe_path, target_size="50kB", imatrix="auto", output=tmp_path, **SHORT)
    assert not left_in(tmp_path)


def test_the_text_of_the_matrix_is_refused(tiny_bpe_path: Path, tmp_path: Path) -> None:
    text = "The sea was calm that morning. " * 40
    made = imatrix(tiny_bpe_path, text, output=tmp_path / "m.gguf", n_ctx=32, n_threads=1)
    with pytest.raises(QuantizeError, match="made from the text that the loss is measured on"):
        quantize(tiny_bpe_path, target_size="90kB", imatrix=made.path, text=text, output=tmp_path)


def test_an_importance_matrix_allows_smaller_types(tmp_path: Path) -> None:
    """And only for the tensors that it has: not for the embeddings, nor the output."""
    source = tmp_path / "wide.gguf"
    make_llama_bpe(source, n_embd=256)
    text = "The sea was calm that morning. " * 40
    made = imatrix(source, text, output=tmp_path / "m.gguf", n_ctx=32, n_threads=1)
    done = quantize(source, target_kld=100.0, imatrix=made.path, output=tmp_path, **SHORT)
    assert done.groups["attn_v.early"] == "IQ2_XXS"
    assert done.groups["token_embd"] == done.groups["output"] == "Q2_K"


@pytest.mark.parametrize("step", ["the source", "output as IQ4_NL", "done"])
def test_an_interrupt_leaves_nothing(step: str, tiny_bpe_path: Path, tmp_path: Path) -> None:
    """Nor is an older file of that name touched before the new one was measured."""
    old = tmp_path / "tiny-bpe-90kB.gguf"
    old.write_bytes(b"the old file")

    def interrupt(_done: int, _all: int, what: str) -> None:
        if what == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(tiny_bpe_path, target_size="90kB", output=tmp_path, progress=interrupt, **SHORT)
    assert left_in(tmp_path) == [old.name]
    if step != "done":
        assert old.read_bytes() == b"the old file"


def test_the_command(tiny_bpe_path: Path, tmp_path: Path) -> None:
    short = ["--n-ctx", "32", "--chunks", "1", "--n-threads", "1", "-o", tmp_path]
    done = localgen_command("quantize", tiny_bpe_path, "--target-size", "90kB", *short, "--json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert re.search(r"up to \d+ files to write and measure", done.stderr)
    assert re.search(r"the search takes about \d+ s, by the first", done.stderr)
    assert os.path.getsize(found["path"]) == found["n_bytes"] <= 90_000
    assert found["below"]["level"]
    again = localgen_command("quantize", tiny_bpe_path, "--target-size", "90kB", *short)
    assert "on text that the search did not use" in again.stdout
    assert "replaced" in again.stderr
    refused = localgen_command("quantize", tiny_bpe_path, "--target-kld", "1", "--pure", *short)
    assert refused.returncode == 2
    assert "--pure cannot be used with a target" in refused.stderr
    wrong = localgen_command("quantize", tiny_bpe_path, "--target-size", "5kB", *short)
    assert wrong.returncode == 1
    assert "--target-size 5kB cannot be reached" in wrong.stderr
