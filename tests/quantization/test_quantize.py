"""Quantized files: what is written, what is refused, and what a failure leaves behind."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from localgen import LocalModel, ModelNotFoundError, QuantizeError, quantize
from localgen.gguf.imatrix_file import read_imatrix
from localgen.llama.quantize import quantization_types
from localgen.quantization import quantize as quantize_module
from localgen.quantization.runner import Runner
from models.make_tiny import make_llama_bpe
from tests.cli.test_generate import localgen_command
from tests.shards import write_shards
from tests.systems import is_root

# Rows of the tiny model are 64 wide: these types' blocks divide them.
FITTING = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL"]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("level", [*FITTING, "Q4_K_M", "Q2_K", "TQ2_0", "MXFP4_MOE"])
def test_a_level_is_written_and_runs(level: str, tiny_bpe_path: Path, tmp_path: Path) -> None:
    """The report agrees with what an independent reader finds in the file."""
    done = quantize(tiny_bpe_path, level, output=tmp_path)
    assert done.path == tmp_path / f"tiny-bpe-{level}.gguf"
    tensors = gguf.GGUFReader(done.path).tensors
    n_bits = 8 * sum(int(tensor.n_bytes) for tensor in tensors)
    n_weights = sum(int(tensor.n_elements) for tensor in tensors)
    assert done.bits_per_weight == pytest.approx(n_bits / n_weights)
    assert done.n_bytes == done.path.stat().st_size
    kinds = [tensor.tensor_type.name for tensor in tensors]
    assert done.types == {kind: kinds.count(kind) for kind in kinds}
    assert _left_in(tmp_path) == [done.path.name]
    with LocalModel.from_pretrained(done.path, n_ctx=64) as model:
        assert model.complete("a", max_new_tokens=2).token_ids


def test_names_are_those_of_llama_cpp() -> None:
    """Every common level is listed, and nothing that cannot be written."""
    known = quantization_types()
    assert {"F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K", "IQ2_XXS"} <= set(known)
    assert known["F32"] == 0
    assert not any("GUESSED" in name or "MOSTLY" in name for name in known)


def test_fallbacks_are_counted(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """Rows of 64 do not divide into blocks of 256: Q4_K becomes Q5_0, despite the level's name."""
    done = quantize(tiny_bpe_path, "q4_k", output=tmp_path)
    assert done.level == "Q4_K_M"
    assert done.n_fallback > 0
    assert "Q4_K" not in done.types
    assert quantize(tiny_bpe_path, "Q8_0", output=tmp_path).n_fallback == 0


def test_pure_gives_every_matrix_the_one_type(tiny_bpe_path: Path, tmp_path: Path) -> None:
    mixed = quantize(tiny_bpe_path, "Q4_0", output=tmp_path)
    pure = quantize(tiny_bpe_path, "Q4_0", output=tmp_path, pure=True)
    assert set(mixed.types) > set(pure.types) == {"F32", "Q4_0"}


def test_several_levels_and_progress(tiny_bpe_path: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    done = quantize(
        tiny_bpe_path,
        ["Q8_0", "Q4_0"],
        output=tmp_path,
        progress=lambda index, of, name: seen.append((index, of, name)),
    )
    assert [file.level for file in done] == ["Q8_0", "Q4_0"]
    n_tensors = len(gguf.GGUFReader(done[0].path).tensors)
    assert [(index, of) for index, of, _ in seen] == 2 * [
        (i, n_tensors) for i in range(1, n_tensors + 1)
    ]
    assert "token_embd.weight" in {name for _, _, name in seen}


def test_the_level_in_a_name_is_replaced(tiny_bpe_path: Path, tmp_path: Path) -> None:
    source = tmp_path / "model.F16.gguf"
    source.write_bytes(tiny_bpe_path.read_bytes())
    assert quantize(source, "Q8_0", output=tmp_path).path.name == "model-Q8_0.gguf"


def test_shards_are_joined_or_kept(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """With keep_split each shard of the source becomes one; without it, all become one file."""
    source = write_shards(tiny_bpe_path, tmp_path)[0]
    whole = quantize(source, "Q8_0", output=tmp_path / "whole")
    assert _left_in(tmp_path / "whole") == ["split-Q8_0.gguf"]
    kept = quantize(source, "Q8_0", output=tmp_path / "kept", keep_split=True)
    assert kept.path == kept.paths[0]
    assert _left_in(tmp_path / "kept") == [
        "split-Q8_0-00001-of-00002.gguf",
        "split-Q8_0-00002-of-00002.gguf",
    ]
    assert kept.n_bytes == sum(path.stat().st_size for path in kept.paths)
    assert (kept.types, kept.bits_per_weight) == (whole.types, whole.bits_per_weight)
    with LocalModel.from_pretrained(kept.path, n_ctx=64) as model:
        assert model.complete("a", max_new_tokens=2).token_ids


def test_an_interrupt_leaves_no_shard(tiny_bpe_path: Path, tmp_path: Path) -> None:
    source = write_shards(tiny_bpe_path, tmp_path)[0]

    def interrupt(index: int, of: int, _name: str) -> None:
        if index == of:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(source, "Q8_0", output=tmp_path / "made", keep_split=True, progress=interrupt)
    assert not _left_in(tmp_path / "made")


# --- what is refused, before anything is written ---


def test_one_file_has_no_shards_to_keep(tiny_bpe_path: Path, tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match=r"keep_split=True has no effect: .* is one file"):
        quantize(tiny_bpe_path, "Q8_0", output=tmp_path, keep_split=True)
    assert not _left_in(tmp_path)


def test_unknown_levels_name_the_nearest(tiny_bpe_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown quantization level 'Q8'; did you mean Q8_0"):
        quantize(tiny_bpe_path, ["Q4_0", "Q8"], output=tmp_path)
    assert not _left_in(tmp_path)


@pytest.mark.parametrize(
    ("levels", "options", "message"),
    [
        ([], {}, "levels is empty"),
        (["Q8_0", "q8_0"], {}, "levels contains Q8_0 twice"),
        (["Q4_K_M", "Q8_0", "Q4_K"], {}, "levels contains Q4_K_M twice"),
        ("Q8_0", {"n_threads": 0}, "n_threads must be between 1 and 512, got 0"),
        ("Q8_0", {"n_threads": -3}, "n_threads must be between 1 and 512, got -3"),
    ],
)
def test_wrong_arguments(
    levels: Any, options: Any, message: str, tiny_bpe_path: Path, tmp_path: Path
) -> None:
    """Regression: no level gave no result, one that came twice a single one, and a number of
    threads below 1 meant all of them, or went to C."""
    with pytest.raises(ValueError, match=message):
        quantize(tiny_bpe_path, levels, output=tmp_path, **options)
    assert not _left_in(tmp_path)


def test_a_quantized_source_must_be_allowed(tiny_bpe_path: Path, tmp_path: Path) -> None:
    source = quantize(tiny_bpe_path, "Q4_0", output=tmp_path).path
    with pytest.raises(QuantizeError, match=r"already quantized \(.* of Q4_0.*its loss would add"):
        quantize(source, "Q8_0", output=tmp_path)
    assert quantize(source, "Q8_0", output=tmp_path, allow_requantize=True).types["Q8_0"]


def test_the_source_is_never_the_target(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """Neither by its name nor by a link: llama.cpp would destroy it."""
    source = tmp_path / "model.gguf"
    source.write_bytes(tiny_bpe_path.read_bytes())
    before = _sha256(source)
    (tmp_path / "model-Q8_0.gguf").symlink_to(source)
    os.link(source, tmp_path / "model-Q4_0.gguf")
    for level in ("Q8_0", "Q4_0"):
        with pytest.raises(QuantizeError, match="is the source itself"):
            quantize(source, level, output=tmp_path)
    assert _sha256(source) == before


def test_levels_that_need_an_imatrix(tiny_bpe_path: Path, tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match="IQ2_XS needs an importance matrix"):
        quantize(_wide(tmp_path), "IQ2_XS", output=tmp_path)
    assert _left_in(tmp_path) == ["wide.gguf"]


def test_no_room_and_no_folder(
    tiny_bpe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing folder is created, unless a file has its name."""
    made = quantize(tiny_bpe_path, "Q8_0", output=tmp_path / "a" / "b").path
    assert made.parent == tmp_path / "a" / "b"
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "none").touch()
    with pytest.raises(NotADirectoryError, match="none is not a folder"):
        quantize(tiny_bpe_path, "Q8_0", output=tmp_path / "none")
    (tmp_path / "none").unlink()
    monkeypatch.setattr(quantize_module, "_SPARE_BYTES", 2**60)
    with pytest.raises(QuantizeError, match=r"the files need .* MB, and .* MB free"):
        quantize(tiny_bpe_path, "Q8_0", output=tmp_path)
    assert not _left_in(tmp_path)


def test_a_folder_with_the_targets_name(tiny_bpe_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny-bpe-Q8_0.gguf"
    folder.mkdir()
    with pytest.raises(QuantizeError, match=r"tiny-bpe-Q8_0\.gguf is a folder"):
        quantize(tiny_bpe_path, "Q8_0", output=tmp_path)
    assert _left_in(tmp_path) == [folder.name]
    assert not _left_in(folder)


def test_a_bad_source_is_refused_by_the_gate(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        quantize(tmp_path / "none.gguf", "Q8_0", output=tmp_path)


def test_the_reason_of_llama_cpp_is_told(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """It stands at the end of a line about the tensor, and was lost."""
    source = tmp_path / "nan.gguf"
    shutil.copy(tiny_bpe_path, source)
    tensors = gguf.GGUFReader(source, "r+").tensors
    next(t for t in tensors if t.name == "blk.0.ffn_up.weight").data[0, 0] = np.nan
    with pytest.raises(QuantizeError, match=r"tensor 'blk\.0\.ffn_up\.weight' has invalid data"):
        quantize(source, "Q8_0", output=tmp_path)


# --- failures in the middle ---


@pytest.fixture
def old(tiny_bpe_path: Path, tmp_path: Path) -> Callable[[], None]:
    """A file at the target; call it to check that it is unchanged and alone."""
    target = tmp_path / "tiny-bpe-Q8_0.gguf"
    target.write_bytes(b"the old file")

    def check() -> None:
        assert _left_in(tmp_path) == [target.name]
        assert target.read_bytes() == b"the old file"

    return check


def test_a_disk_that_becomes_full(
    tiny_bpe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(small)]
    if not is_root() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        monkeypatch.setattr(quantize_module, "check_disk", lambda *_: None)
        with pytest.raises(QuantizeError, match="F32"):
            quantize(tiny_bpe_path, "F32", output=small)
        assert not _left_in(small)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_crash_in_c_is_an_error(
    tiny_bpe_path: Path, tmp_path: Path, old: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller survives and learns which signal killed the quantizer."""
    python = tmp_path.parent / f"{tmp_path.name}-dies"
    python.write_text("#!/bin/sh\nkill -ABRT $$\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(QuantizeError, match="ended with code -6"):
        quantize(tiny_bpe_path, "Q8_0", output=tmp_path)
    old()


def test_an_interrupt_leaves_the_old_file(tiny_bpe_path: Path, tmp_path: Path, old: Any) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(tiny_bpe_path, "Q8_0", output=tmp_path, progress=interrupt)
    old()


def test_a_file_that_differs_from_the_dry_run_is_not_kept(
    tiny_bpe_path: Path, tmp_path: Path, old: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tensor of the file must have the type that the dry run reported."""
    plan = Runner.plan
    monkeypatch.setattr(Runner, "plan", lambda self, level, _: plan(self, "Q4_0", 2))
    with pytest.raises(QuantizeError, match="differs from the dry run"):
        quantize(tiny_bpe_path, "Q8_0", output=tmp_path)
    old()


def test_a_corrupt_file_is_not_kept(
    tiny_bpe_path: Path, tmp_path: Path, old: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What llama.cpp wrote is checked as any file is that comes from elsewhere."""
    check = Runner._check_written

    def cut_short(self: Any, level: str, partial: Path, plan: Any) -> Any:
        os.truncate(partial, partial.stat().st_size // 2)
        return check(self, level, partial, plan)

    monkeypatch.setattr(Runner, "_check_written", cut_short)
    with pytest.raises(QuantizeError, match=r"llama\.cpp wrote a corrupt Q8_0 file: "):
        quantize(tiny_bpe_path, "Q8_0", output=tmp_path)
    old()


def test_a_tensor_that_the_dry_run_left_out(
    tiny_bpe_path: Path, tmp_path: Path, old: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Runner.run

    def without_one(self: Any, *args: Any, **options: Any) -> dict[str, Any]:
        found = run(self, *args, **options)
        del found["types"]["output_norm.weight"]
        return found

    monkeypatch.setattr(Runner, "run", without_one)
    message = r"llama\.cpp did not report the type of output_norm\.weight in Q8_0"
    with pytest.raises(QuantizeError, match=message):
        quantize(tiny_bpe_path, "Q8_0", output=tmp_path)
    old()


def test_a_whole_file_takes_the_old_ones_place(
    tiny_bpe_path: Path, tmp_path: Path, old: Any
) -> None:
    done = quantize(tiny_bpe_path, "Q8_0", output=tmp_path)
    assert done.path.read_bytes().startswith(b"GGUF")
    assert _left_in(tmp_path) == [done.path.name]


# --- importance matrices ---


def _write_imatrix(path: Path, entries: dict[str, tuple[Any, Any]]) -> None:
    writer = gguf.GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    for name, (sums, counts) in entries.items():
        writer.add_tensor(f"{name}.in_sum2", np.array(sums, np.float32))
        writer.add_tensor(f"{name}.counts", np.array(counts, np.float32).reshape(-1, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _old_imatrix(entries: dict[str, tuple[list[float], int]]) -> bytes:
    data = struct.pack("<i", len(entries))
    for name, (sums, n_calls) in entries.items():
        data += struct.pack("<i", len(name)) + name.encode()
        data += struct.pack("<ii", n_calls, len(sums)) + np.array(sums, "<f4").tobytes()
    return data


def test_the_two_formats_of_an_imatrix(tmp_path: Path) -> None:
    """Means, computed by hand: sums over counts; an expert that was not used counts as 1."""
    new, old = tmp_path / "new.gguf", tmp_path / "old.dat"
    _write_imatrix(new, {"a": ([2.0, 4.0], [2]), "b": ([[3.0, 6.0], [0.0, 0.0]], [3, 0])})
    old.write_bytes(_old_imatrix({"a": ([2.0, 4.0], 2)}))
    read = read_imatrix(new)
    assert read["a"].tolist() == read_imatrix(old)["a"].tolist() == [1.0, 2.0]
    assert read["b"].tolist() == [1.0, 2.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"text", struct.pack("<i", 3), struct.pack("<ii", 1, 2**30), struct.pack("<i", -1),
        _old_imatrix({"a": ([1.0, float("nan")], 1)}), _old_imatrix({"a": ([1.0], 1)})[:-2],
        struct.pack("<ii", 1, -4) + b"abcd" * 4,
    ],
)  # fmt: skip
def test_damaged_imatrices(data: bytes, tmp_path: Path, tiny_bpe_path: Path) -> None:
    """Refused before anything runs or is allocated."""
    path = tmp_path / "bad.dat"
    path.write_bytes(data)
    with pytest.raises(
        QuantizeError, match=r"corrupt|has no importance matrix|not an importance matrix"
    ):
        quantize(tiny_bpe_path, "Q8_0", output=tmp_path, imatrix=path)


def _wide(folder: Path) -> Path:
    """A tiny model with rows of 256, which every type accepts."""
    path = folder / "wide.gguf"
    make_llama_bpe(path, n_embd=256)
    return path


def test_an_imatrix_changes_what_is_kept(tmp_path: Path) -> None:
    source, matrix = _wide(tmp_path), tmp_path / "matrix.gguf"
    widths = {
        tensor.name: int(tensor.shape[0])
        for tensor in gguf.GGUFReader(source).tensors
        if len(tensor.shape) == 2 and tensor.name.startswith("blk.")
    }
    ramps = {name: (np.linspace(1, 100, width), [1]) for name, width in widths.items()}
    _write_imatrix(matrix, ramps)
    plain = _sha256(quantize(source, "Q4_0", output=tmp_path).path)
    weighted = quantize(source, "Q4_0", output=tmp_path, imatrix=matrix)
    assert _sha256(weighted.path) != plain
    small = quantize(source, "IQ2_XS", output=tmp_path, imatrix=matrix)
    assert small.types["IQ2_XS"]
    assert small.n_fallback == 0


def _columns(source: Path) -> dict[str, int]:
    """The matrices in a model's layers and how many columns each has."""
    tensors = gguf.GGUFReader(source).tensors
    return {
        tensor.name: int(tensor.shape[0])
        for tensor in tensors
        if len(tensor.shape) == 2 and tensor.name.startswith("blk.")
    }


def _error(source: Path, made: Path, name: str) -> float:
    """The relative error of a tensor in Q4_0 against the source's F32, by blocks of 32."""

    def tensor(path: Path) -> Any:
        return next(t for t in gguf.GGUFReader(path).tensors if t.name == name)

    right = np.array(tensor(source).data, np.float32)
    found = gguf.dequantize(tensor(made).data, tensor(made).tensor_type).reshape(right.shape)
    return float(np.linalg.norm(found - right) / np.linalg.norm(right))


def test_zeros_in_an_imatrix_are_no_information(tmp_path: Path) -> None:
    """Regression: all tensors were written as zeros, with an error of 1.0 and no word."""
    source, matrix = _wide(tmp_path), tmp_path / "matrix.gguf"
    columns = _columns(source)
    first, second, *others = columns
    half = [0.0] * (columns[second] // 2) + [1.0] * (columns[second] // 2)
    _write_imatrix(
        matrix,
        {name: ([1.0] * columns[name], [1]) for name in others}
        | {first: ([0.0] * columns[first], [1]), second: (half, [1])},
    )
    with pytest.warns(UserWarning, match="has no data for") as warned:
        done = quantize(source, "Q4_0", output=tmp_path, imatrix=matrix)
    assert [str(each.message) for each in warned] == [
        f"{matrix} has no data for 1 tensor ({first}): all of their columns count the same",
        f"{matrix} has no data for some columns of 1 tensor ({second}): they count like the "
        f"average column",
    ]
    for name in (first, second):
        assert _error(source, done.path, name) < 0.2


def test_an_imatrix_of_another_model(tmp_path: Path, tiny_bpe_path: Path) -> None:
    """Nothing of it matches, or its widths are others."""
    matrix = tmp_path / "matrix.gguf"
    _write_imatrix(matrix, {"blk.0.other.weight": ([1.0] * 64, [1])})
    with pytest.warns(UserWarning, match=r"none of the tensors of tiny-bpe\.gguf, so it changes"):
        quantize(tiny_bpe_path, "Q8_0", output=tmp_path, imatrix=matrix)
    _write_imatrix(matrix, {"blk.0.attn_q.weight": ([1.0] * 96, [1])})
    with pytest.raises(
        QuantizeError, match=r"has 96 values for blk\.0\.attn_q\.weight, which has 64 columns"
    ):
        quantize(tiny_bpe_path, "Q8_0", output=tmp_path, imatrix=matrix)


def test_an_imatrix_of_a_model_that_is_alike_in_part(tmp_path: Path, tiny_bpe_path: Path) -> None:
    """Such as one without experts: what it lacks was quantized without it, and without a word."""
    matrix = tmp_path / "matrix.gguf"
    columns = _columns(tiny_bpe_path)
    first, *others = columns
    _write_imatrix(matrix, {name: ([1.0] * columns[name], [1]) for name in others})
    with pytest.warns(UserWarning, match=rf"has nothing for 1 weight \({first}\) of the layers"):
        quantize(tiny_bpe_path, "Q8_0", output=tmp_path, imatrix=matrix)


# --- the command ---


def test_the_command(tiny_bpe_path: Path, tmp_path: Path) -> None:
    done = localgen_command(
        "quantize", tiny_bpe_path, "-t", "Q8_0", "-t", "q4_k_m", "-o", tmp_path, "--json"
    )
    assert done.returncode == 0, done.stderr
    files = json.loads(done.stdout)
    assert [file["level"] for file in files] == ["Q8_0", "Q4_K_M"]
    assert all(Path(file["path"]).exists() for file in files)
    table = localgen_command("quantize", tiny_bpe_path, "-t", "Q2_K", "-o", tmp_path)
    assert "bits/weight" in table.stdout
    assert "Q2_K:" in table.stderr
    assert "stored in a larger type" in table.stderr
    assert "replaced" not in table.stderr
    again = localgen_command("quantize", tiny_bpe_path, "-t", "Q2_K", "-o", tmp_path)
    assert f"localgen: replaced {tmp_path / tiny_bpe_path.stem}-Q2_K.gguf" in again.stderr


def test_the_command_says_what_is_wrong(tiny_bpe_path: Path, tmp_path: Path) -> None:
    wrong = localgen_command("quantize", tiny_bpe_path, "-t", "Q80", "-o", tmp_path)
    assert wrong.returncode == 2
    assert "did you mean Q8_0" in wrong.stderr
    source = quantize(tiny_bpe_path, "Q4_0", output=tmp_path).path
    refused = localgen_command("quantize", source, "-t", "Q8_0", "-o", tmp_path)
    assert refused.returncode == 1
    assert "--allow-requantize" in refused.stderr


FULL_DISK = """
import resource, sys
from localgen import QuantizeError, quantize

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    quantize(sys.argv[1], "Q8_0", output=sys.argv[2], n_threads=1)
except QuantizeError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files' sizes are POSIX's")
def test_a_full_disk_is_told_as_such_and_nothing_remains(tmp_path: Path) -> None:
    """It was told as "basic_ios::clear: iostream error"."""
    source, folder = _wide(tmp_path), tmp_path / "made"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(source), str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "a file cannot be written; is the disk full?" in done.stdout
    assert not list(folder.iterdir())
