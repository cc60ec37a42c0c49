"""Importance matrices of a tiny model: chunks, resuming, merging, interrupts, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import (
    GenerationInterrupted,
    ImportanceMatrix,
    QuantizeError,
    imatrix,
    merge_imatrices,
    quantize,
)
from localgen.gguf.imatrix_file import Imatrix, read_sums
from localgen.gguf.imatrix_sums import Sums
from localgen.quantization import imatrix as module
from localgen.quantization.imatrix_result import described, is_made_from, warn_of_gaps
from models.make_tiny import make_llama_bpe, make_llama_moe

TEXT = "The quick brown fox jumps over the lazy dog. " * 20
OTHER = "Pack my box with five dozen liquor jugs! " * 20


def make(model: Path, output: Path, text: Any = TEXT, **options: Any) -> ImportanceMatrix:
    return imatrix(model, text, output=output, n_threads=1, **{"n_ctx": 32, **options})


def sums_in(path: Path) -> dict[str, Sums]:
    return dict(read_sums(path).sums)


def assert_same(found: dict[str, Sums], expected: dict[str, Sums], rtol: float = 1e-6) -> None:
    assert set(found) == set(expected)
    for name, sums in expected.items():
        np.testing.assert_allclose(found[name].sums, sums.sums, rtol=rtol)
        assert found[name].counts.tolist() == sums.counts.tolist()


def test_what_is_written_and_told(tiny_bpe_path: Path, tmp_path: Path) -> None:
    done = make(tiny_bpe_path, tmp_path / "a.gguf", n_chunks=3)
    read = read_sums(done.path)
    assert (done.n_chunks, done.n_ctx, done.n_tensors) == (3, 32, 14)
    assert (read.n_chunks, read.chunk_size, read.datasets) == (3, 32, ("text 1",))
    assert {int(each.counts[0]) for each in read.sums.values()} == {96}
    assert (done.unused_experts, done.zero_columns, done.missing) == ({}, {}, ())
    assert is_made_from(done.path, TEXT)
    assert not is_made_from(done.path, OTHER)


def test_flash_attention_can_be_chosen(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """It rounds differently, so that the inputs after the first attention do, a little."""
    off, on = (
        make(tiny_bpe_path, tmp_path / f"{mode}.gguf", n_chunks=1, flash_attention=mode)
        for mode in ("off", "on")
    )
    assert_same(sums_in(on.path), sums_in(off.path), rtol=0.05)
    name = "blk.0.attn_output.weight"
    assert (sums_in(on.path)[name].sums != sums_in(off.path)[name].sums).any()
    assert read_sums(on.path).origin["flash_attention"] == "on"


def test_a_file_is_the_text_in_it(tiny_bpe_path: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    first = make(tiny_bpe_path, tmp_path / "a.gguf", n_chunks=1)
    second = make(tiny_bpe_path, tmp_path / "b.gguf", text, n_chunks=1)
    assert_same(sums_in(second.path), sums_in(first.path), rtol=0)
    assert read_sums(second.path).datasets == ("text.txt",)


def test_passes_of_parts_of_a_chunk_add_up(
    tiny_bpe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk that is longer than a pass: each part attends to those before it."""
    whole = make(tiny_bpe_path, tmp_path / "a.gguf", n_ctx=128, n_chunks=1)
    monkeypatch.setattr(module, "_MOST_ROWS", 64)
    parts = make(tiny_bpe_path, tmp_path / "b.gguf", n_ctx=128, n_chunks=1)
    assert_same(sums_in(parts.path), sums_in(whole.path), rtol=1e-4)


@pytest.mark.parametrize(
    ("n_ctx", "n_vocab", "expected"),
    [(512, 49_152, 512), (512, 262_144, 256), (513, 300, 257), (4096, 300, 512), (32, 300, 32)],
)
def test_rows_per_pass(n_ctx: int, n_vocab: int, expected: int) -> None:
    """Equal parts: no last one is too short to count."""
    assert module._rows_per_pass(n_ctx, n_vocab) == expected


def interrupt_after(n_chunks: int) -> Any:
    def progress(n_done: int, _of: int, _what: str) -> None:
        if n_done == n_chunks:
            import signal

            signal.raise_signal(signal.SIGINT)

    return progress


def test_an_interrupted_run_is_resumed(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """Ctrl-C keeps whole chunks, and the rest gives the same file as a run in one piece."""
    whole = make(tiny_bpe_path, tmp_path / "whole.gguf", n_chunks=4)
    path = tmp_path / "part.gguf"
    with pytest.raises(GenerationInterrupted) as stopped:
        make(tiny_bpe_path, path, n_chunks=4, progress=interrupt_after(2))
    assert stopped.value.partial.n_chunks == read_sums(path).n_chunks == 2
    seen: list[int] = []
    done = make(tiny_bpe_path, path, n_chunks=4, resume=True, progress=lambda n, *_: seen.append(n))
    assert seen == [2, 3, 4]
    assert done.n_chunks == 4
    assert_same(sums_in(path), sums_in(whole.path))


def test_an_interrupt_before_the_first_chunk_writes_nothing(
    tiny_bpe_path: Path, tmp_path: Path
) -> None:
    with pytest.raises(GenerationInterrupted) as stopped:
        make(tiny_bpe_path, tmp_path / "a.gguf", progress=interrupt_after(0))
    assert stopped.value.partial is None
    assert not list(tmp_path.iterdir())


def test_an_earlier_matrix_is_replaced_only_on_request(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """It may have taken hours, and was replaced by the next run in the same folder."""
    path = make(tiny_bpe_path, tmp_path / "a.gguf", n_chunks=2).path
    before = path.read_bytes()
    with pytest.raises(QuantizeError, match=r"a\.gguf exists, .*resume=True .*overwrite=True"):
        make(tiny_bpe_path, path, n_chunks=1)
    with pytest.raises(ValueError, match="exclude each other"):
        make(tiny_bpe_path, path, resume=True, overwrite=True)
    other = make(tiny_bpe_path, tmp_path / "b.gguf", OTHER, n_chunks=1).path
    with pytest.raises(QuantizeError, match=r"a\.gguf exists, .*overwrite=True replaces it"):
        merge_imatrices([path, other], output=path)
    assert path.read_bytes() == before
    assert merge_imatrices([path, other], output=path, overwrite=True).n_chunks == 3
    assert make(tiny_bpe_path, path, n_chunks=1, overwrite=True).n_chunks == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"text": OTHER}, "it was made with a different text"),
        ({"n_ctx": 64}, "it was made with a different n_ctx"),
        ({"process_output": True}, "it was made with a different process_output"),
        ({"flash_attention": "on"}, "it was made with a different flash_attention"),
        ({"model": "other"}, "it was made with a different model"),
    ],
)
def test_only_the_same_run_is_resumed(
    changed: dict[str, Any], message: str, tiny_bpe_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.gguf"
    make(tiny_bpe_path, path, n_chunks=1)
    before = path.read_bytes()
    model = tiny_bpe_path
    if changed.pop("model", None):
        model = tmp_path / "other.gguf"
        make_llama_bpe(model, seed=1)
    with pytest.raises(QuantizeError, match=message):
        make(model, path, n_chunks=2, resume=True, **changed)
    assert path.read_bytes() == before


def test_merging_adds_what_two_texts_gave(tiny_bpe_path: Path, tmp_path: Path) -> None:
    first, second = (
        make(tiny_bpe_path, tmp_path / f"{n}.gguf", text, n_chunks=n)
        for n, text in ((1, TEXT), (2, OTHER))
    )
    done = merge_imatrices([first.path, second.path], output=tmp_path / "both.gguf")
    assert (done.n_chunks, done.n_ctx) == (3, 32)
    one, two = sums_in(first.path), sums_in(second.path)
    assert_same(sums_in(done.path), {name: one[name] + two[name] for name in one})
    assert is_made_from(done.path, TEXT)
    assert is_made_from(done.path, OTHER)
    with pytest.raises(QuantizeError, match="cannot be resumed: it was merged"):
        make(tiny_bpe_path, done.path, resume=True)
    with pytest.raises(ValueError, match="merging needs at least two files, got 1"):
        merge_imatrices([first.path], output=tmp_path / "one.gguf")


def test_files_with_different_tensors_are_told(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """Models with and without experts have many tensors in common, of equal shapes."""
    moe = tmp_path / "moe.gguf"
    make_llama_moe(moe)
    paths = [
        make(model, tmp_path / f"{model.stem}-sums.gguf", text, n_chunks=1).path
        for model, text in ((tiny_bpe_path, TEXT), (moe, OTHER * 9))
    ]
    with pytest.warns(UserWarning, match=r"lacks \d+ tensors .* that another file has") as warned:
        merge_imatrices(paths, output=tmp_path / "both.gguf")
    told = [str(each.message) for each in warned if "that another file" in str(each.message)]
    assert [message.split()[0] for message in told] == [str(path) for path in paths]


def test_nothing_counts_twice_in_silence(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """The same file under two names is refused; the same text in two files is told."""
    first, longer = (make(tiny_bpe_path, tmp_path / f"{n}.gguf", n_chunks=n) for n in (1, 2))
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(first.path.read_bytes())
    for again in (first.path, copy):
        with pytest.raises(ValueError, match=r"1\.gguf are the same importance matrix"):
            merge_imatrices([first.path, longer.path, again], output=tmp_path / "all.gguf")
    assert not (tmp_path / "all.gguf").exists()
    with pytest.warns(UserWarning, match=r"2\.gguf are made from the same text, which counts 2 t"):
        merge_imatrices([first.path, longer.path], output=tmp_path / "all.gguf")


def test_a_matrix_of_another_model_is_not_merged(tiny_bpe_path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    make_llama_bpe(other, n_embd=32)
    paths = [
        make(model, tmp_path / f"{n}.gguf", n_chunks=1).path
        for n, model in enumerate((tiny_bpe_path, other))
    ]
    with pytest.raises(QuantizeError, match=r"1\.gguf belongs to another model: blk\.0\.attn_"):
        merge_imatrices(paths, output=tmp_path / "both.gguf")
    assert not (tmp_path / "both.gguf").exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"text": "short"}, QuantizeError, r"tokens?, fewer than one chunk of n_ctx=32\. Give"),
        ({"text": []}, ValueError, "texts is empty"),
        ({"text": [7]}, ValueError, r"texts must be str \(a text\) or Path \(a file\), got int 7"),
        ({"text": "short"}, QuantizeError, r"text \(a str is the text itself, a Path a file\) or"),
        ({"n_ctx": 1024}, ValueError, "n_ctx=1024 exceeds the 512 tokens the model was trained on"),
        ({"n_ctx": 8}, ValueError, "n_ctx must be between 16 and"),
        ({"n_chunks": 0}, ValueError, "n_chunks must be at least 1"),
        ({"output": "a.dat"}, ValueError, r"output must be a \.gguf file"),
    ],
)
def test_what_is_refused(
    options: dict[str, Any], error: Any, message: str, tiny_bpe_path: Path, tmp_path: Path
) -> None:
    output = tmp_path / options.pop("output", "a.gguf")
    with pytest.raises(error, match=message):
        make(tiny_bpe_path, output, **options)
    assert not list(tmp_path.iterdir())


def test_a_model_is_not_replaced_by_its_matrix(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    make_llama_bpe(model)
    before = model.read_bytes()
    with pytest.raises(ValueError, match="is not an importance matrix, and would be replaced"):
        make(model, model)
    with pytest.raises(ValueError, match="would be replaced"):
        merge_imatrices([model, model], output=model)
    assert model.read_bytes() == before


def test_fewer_chunks_than_wanted_are_told(tiny_bpe_path: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"the calibration text has \d+ chunks, not 10000"):
        make(tiny_bpe_path, tmp_path / "a.gguf", n_chunks=10_000)


def test_experts_without_tokens_are_told(tmp_path: Path) -> None:
    """Sixteen tokens cannot reach all of 64 experts."""
    model = tmp_path / "moe.gguf"
    make_llama_moe(model, n_experts=64, n_used=1)
    with pytest.warns(UserWarning, match=r"has no data for \d+ experts in 6 tensors"):
        done = make(model, tmp_path / "a.gguf", n_ctx=16, n_chunks=1)
    assert all(n >= 48 for n in done.unused_experts.values())
    assert len(done.unused_experts) == 6


def test_columns_and_weights_without_data_are_told(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    whole = Imatrix(sums={"w": Sums(np.array([[1.0, 0, 0]]), np.array([4]))})
    done = described(whole, tmp_path / "a.gguf", ("blk.9.attn_q.weight",), 0)
    assert done.zero_columns == {"w": 2}
    warn_of_gaps(done)
    first, second = (str(each.message) for each in recwarn)
    assert "columns without data in 1 tensor (w): their inputs were always 0" in first
    assert "lacks 1 weight (blk.9.attn_q.weight) of the model's layers" in second


def test_quantize_makes_a_matrix_of_its_own(
    tiny_bpe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is kept beside the level, and not made again."""
    monkeypatch.setattr("localgen.quantization.calibration._MOST_CHARACTERS", 2500)
    plain = quantize(tiny_bpe_path, "Q4_0", output=tmp_path).path.read_bytes()
    seen: list[tuple[int, str]] = []

    def progress(index: int, _of: int, name: str) -> None:
        seen.append((index, name))

    done = quantize(tiny_bpe_path, "Q4_0", output=tmp_path, imatrix="auto", progress=progress)
    assert done.path.read_bytes() != plain
    made = read_sums(tmp_path / "tiny-bpe.imatrix.gguf")
    assert made.datasets == ("Python's standard library",)
    assert seen[0] == (1, "chunks")
    seen.clear()
    quantize(tiny_bpe_path, "Q4_0", output=tmp_path, imatrix="auto", progress=progress)
    assert seen[0] == (made.n_chunks, "chunks")
