"""Reference packs: what comes back from a file, what is refused, and levels scored from one."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import CompareError, ModelNotFoundError
from localgen.compare import Comparison, compare, pack_making, save_html
from localgen.compare.divergence import GreedyText
from localgen.compare.formats import noise_line
from localgen.compare.packed_rows import pack_rows
from localgen.compare.reference_pack import About, PackedModel, ReferencePack, write_pack
from tests.cli.test_generate import localgen_command
from tests.comparisons import comparison, level

TEXT = "The lighthouse stood at the end of a long road that few people took in winter. " * 4
SMALL: dict[str, Any] = {"speed": False, "n_threads": 1}


def about(**more: Any) -> About:
    model = PackedModel(
        name="F16", kv_type="f16", file="m-F16.gguf", sha256="ab", file_bytes=9,
        bits_per_weight=16.0, flash_attention="off",
    )  # fmt: skip
    fields: dict[str, Any] = {
        "reference": model, "text_sha256": "cd", "tokenizer_sha256": "ef", "n_vocab": 100,
        "n_ctx": 8, "n_chunks": 2, "n_top": 5, "n_samples": 3, "made_with": {"cpu": "a CPU"},
        "texts": (GreedyText("Water", " boils", (1, 2)),),
    }  # fmt: skip
    return About(**{**fields, **more})


def rows(number: int, of: About) -> Any:
    rng = np.random.default_rng(number)
    logits = rng.normal(0, 3, (of.n_scored, of.n_vocab)).astype(np.float32)
    return pack_rows(logits, np.arange(of.n_scored, dtype=np.int32), of.dtype, rng)


def written(path: Path, of: About, made: Iterator[Any] | None = None) -> Path:
    parts = [np.arange(8, dtype=np.int32), np.arange(8, 16, dtype=np.int32)]
    write_pack(path, of, parts, made or (rows(number, of) for number in range(2)))
    return path


# --- the file ---


def test_a_pack_comes_back_as_it_was(tmp_path: Path) -> None:
    pack = ReferencePack(written(tmp_path / "m.pack", about()))
    assert pack.about == about()
    assert [part.tolist() for part in pack.parts] == [[*range(8)], [*range(8, 16)]]
    for number in (1, 0, 1):
        assert (pack.rows(number) == rows(number, about())).all()


def test_numpy_alone_reads_a_pack(tmp_path: Path) -> None:
    """The format is documented, and needs nothing of localgen."""
    with np.load(written(tmp_path / "m.pack", about())) as archive:
        assert archive["tokens"].shape == (2, 8)
        assert archive["rows-1"]["top_ids"].shape == (3, 5)


def test_a_pack_is_the_same_file_each_time(tmp_path: Path) -> None:
    one, two = (written(tmp_path / name, about()) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_a_pack_that_fails_halfway_is_not_left_behind(tmp_path: Path) -> None:
    def failing() -> Iterator[Any]:
        yield rows(0, about())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        written(tmp_path / "m.pack", about(), failing())
    assert not [*tmp_path.iterdir()]


def changed(path: Path, name: str, data: bytes | None) -> Path:
    """Write a pack with one of its members replaced, or left out."""
    source = written(path.with_suffix(".whole"), about())
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(path, "w") as other:
        for each in archive.namelist():
            if each != name:
                other.writestr(each, archive.read(each))
        if data is not None:
            other.writestr(name, data)
    return path


def as_json(**more: Any) -> bytes:
    return json.dumps({"version": 1, **dataclasses.asdict(about()), **more}).encode()


def as_npy(path: Path, array: Any) -> bytes:
    np.save(path.with_suffix(".npy"), array)
    return path.with_suffix(".npy").read_bytes()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"version": 2}, "its version is 2, and this version of localgen reads 1"),
        ({"n_ctx": 0}, "n_ctx must be between 8"),
        ({"n_vocab": "many"}, "n_vocab of About must be int, got 'many'"),
        ({"n_vocab": 10}, "it has a token that is not one of 10"),
        ({"n_ctx": 16}, r"tokens\.npy is of int32 \(2, 8\), not of int32 \(2, 16\)"),
        ({"n_chunks": 2**24}, r"tokens\.npy has \d+ bytes, not those"),
        ({"reference": {"name": "F16"}}, "missing"),
        ({"surprise": 1}, "surprise"),
        ({"texts": [{}]}, "prompt"),
        ({"text_sha256": 5}, "text_sha256 of About must be str, got 5"),
        ({"made_with": []}, "made_with of About"),
        ({"texts": []}, "it has no texts of its reference"),
        (
            {"texts": [{"prompt": "\ud800", "text": "", "token_ids": []}]},
            "surrogates not allowed",
        ),
        (
            {"reference": {**dataclasses.asdict(about().reference), "file_bytes": -1}},
            "file_bytes of its reference is -1",
        ),
        (
            {"reference": {**dataclasses.asdict(about().reference), "bits_per_weight": math.nan}},
            "bits_per_weight of its reference is nan",
        ),
    ],
)
def test_a_pack_that_says_something_wrong(tmp_path: Path, more: Any, message: str) -> None:
    path = changed(tmp_path / "m.pack", "pack.json", as_json(**more))
    with pytest.raises(CompareError, match=rf"m\.pack is not a reference pack, or .*{message}"):
        ReferencePack(path)


@pytest.mark.parametrize("name", ["pack.json", "tokens.npy", "rows-1.npy"])
def test_a_pack_that_lacks_something(tmp_path: Path, name: str) -> None:
    with pytest.raises(CompareError, match=f"is not a reference pack, or is corrupt.*{name}"):
        ReferencePack(changed(tmp_path / "m.pack", name, None))


@pytest.mark.parametrize("text", [b"5", b"null", b"[" * 100_000])
def test_a_pack_that_says_nothing(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(CompareError, match="is not a reference pack, or is corrupt"):
        ReferencePack(changed(tmp_path / "m.pack", "pack.json", text))


def test_a_compressed_pack_takes_no_memory(tmp_path: Path) -> None:
    path = written(tmp_path / "m.pack", about())
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(CompareError, match=r"tokens\.npy is compressed"):
        ReferencePack(path)


@pytest.mark.parametrize("data", [b"", b"GGUF", b"[1]", b"PK\x03\x04" + bytes(90)])
def test_a_file_that_is_no_pack(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.pack"
    path.write_bytes(data)
    with pytest.raises(CompareError, match="is not a reference pack, or is corrupt"):
        ReferencePack(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    for path, why in ((tmp_path, "is not a file"), (tmp_path / "none", "does not exist")):
        with pytest.raises(CompareError, match=f"cannot be the reference pack: it {why}"):
            ReferencePack(path)


def test_headers_that_numpy_and_zipfile_fail_at(tmp_path: Path) -> None:
    """Their errors, a TokenError and an OSError, were no CompareError."""
    npy = as_npy(tmp_path / "x", np.zeros((2, 8), "<i4")).replace(b"}", b"(", 1)
    path = changed(tmp_path / "m.pack", "tokens.npy", npy)
    with pytest.raises(CompareError, match="is not a reference pack, or is corrupt"):
        ReferencePack(path)
    data = bytearray(written(tmp_path / "n.pack", about()).read_bytes())
    end = data.rindex(b"PK\x05\x06")
    data[end + 16 : end + 20] = b"\xff\xff\xff\x7f"  # where the directory begins
    (tmp_path / "n.pack").write_bytes(data)
    with pytest.raises(CompareError, match="is not a reference pack, or is corrupt"):
        ReferencePack(tmp_path / "n.pack")


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    path = written(tmp_path / "m.pack", about())
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        data[archive.getinfo("rows-1.npy").header_offset + 400] ^= 1
    path.write_bytes(data)
    pack = ReferencePack(path)
    with pytest.raises(CompareError, match="Bad CRC-32"):
        pack.rows(1)


@pytest.mark.parametrize(("name", "value"), [("best", 100), ("top_ids", 999), ("tail", np.nan)])
def test_rows_that_would_be_read_wrong(tmp_path: Path, name: str, value: Any) -> None:
    """Indices outside the vocabulary, and what is not a number."""
    bad = rows(0, about())
    bad[name] = value
    path = changed(tmp_path / "m.pack", "rows-0.npy", as_npy(tmp_path / "x", bad))
    with pytest.raises(CompareError, match=r"not one of 100|has a tail that is not finite"):
        ReferencePack(path).rows(0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("target", value) for value in (1.0, -1e30)),
        *(("low", value) for value in (5.0, -1e30)),
        *(("tail", value) for value in (-0.5, 2.0)),
        *(("step", value) for value in (-1.0, 0.0, 1e30)),
        *(("top", value) for value in (0, 2**16 - 1)),
        ("top_ids", 1),
    ],
)
def test_probabilities_that_cannot_be(name: str, value: float, tmp_path: Path) -> None:
    """They gave figures that were infinite, or looked like figures."""
    bad = rows(0, about())
    bad[name][0] = value
    path = changed(tmp_path / "m.pack", "rows-0.npy", as_npy(tmp_path / "x", bad))
    with pytest.raises(CompareError, match=r"rows-0\.npy has probabilities that cannot be"):
        ReferencePack(path).rows(0)


# --- levels scored from a pack ---


@pytest.fixture(scope="module")
def made(tiny_bpe_path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison]:
    """A folder with levels of a tiny model and a pack of their reference, and its comparison."""
    folder = tmp_path_factory.mktemp("packs")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pack_making, "N_TOP", 100)  # of 285 tokens, so that there is a tail
        live = compare(
            tiny_bpe_path, ["F32", "Q8_0", "Q4_0"], text=TEXT, n_ctx=32, n_chunks=4, keep=folder,
            save_reference_pack=folder / "m.pack", **SMALL,
        )  # fmt: skip
    return folder, live


def level_in(folder: Path, name: str) -> Path:
    (path,) = folder.glob(f"*-{name}.gguf")
    return path


def test_a_level_without_its_original(made: tuple[Path, Comparison], tmp_path: Path) -> None:
    """The figures are the live reference's, those of the divergence within what is stated."""
    folder, live = made
    for name in ("Q8_0", "Q4_0"):
        path = Path(shutil.copy(level_in(folder, name), tmp_path))
        found = compare(path, reference_pack=folder / "m.pack", **SMALL)
        ours, theirs = found[path.stem], live[name]
        assert ours.kld_mean is not None
        assert ours.kld_sampling_se is not None
        assert theirs.kld_mean is not None
        assert 0 < ours.kld_sampling_se < 0.1 * theirs.kld_mean
        assert ours.kld_mean == pytest.approx(theirs.kld_mean, abs=4 * ours.kld_sampling_se)
        assert ours.flips == theirs.flips
        assert ours.perplexity == theirs.perplexity
        assert ours.ln_ppl_ratio == pytest.approx(theirs.ln_ppl_ratio, abs=1e-6)
        assert ours.divergences == theirs.divergences
        assert found.noise is None
        reference = found["F32 (pack)"]
        assert reference.is_reference
        assert reference.perplexity == pytest.approx(live["F32"].perplexity, rel=1e-6)
        assert reference.sha256 == live["F32"].sha256
        assert found.settings["text_sha256"] == live.settings["text_sha256"]
        assert found.settings["n_ctx"] == 32
        assert any("loss is measured against m.pack" in note for note in found.notes)


def test_the_size_and_the_error_of_a_pack_are_stated(made: tuple[Path, Comparison]) -> None:
    folder, live = made
    (note,) = (note for note in live.notes if "m.pack" in note)
    assert note.startswith("F32 is saved in m.pack: ")
    largest = max(
        ReferencePack(folder / "m.pack").rows(number)["step"].max() for number in range(4)
    )
    assert note.endswith(f"off by at most {largest / 2:.1g}")


def test_saving_a_pack_changes_no_figure(
    made: tuple[Path, Comparison], tiny_bpe_path: Path
) -> None:
    live = made[1]
    plain = compare(tiny_bpe_path, ["F32", "Q8_0"], text=TEXT, n_ctx=32, n_chunks=4, **SMALL)
    assert plain["Q8_0"] == live["Q8_0"]
    assert plain["F32"] == live["F32"]


def test_a_pack_of_other_chunks_or_another_text(made: tuple[Path, Comparison]) -> None:
    """It says what differs, before anything is measured."""
    folder, _ = made
    path, pack = level_in(folder, "Q4_0"), folder / "m.pack"
    with pytest.raises(
        CompareError, match=r"m\.pack was made with n_ctx=32, not 512 and n_chunks=4"
    ):
        compare(path, reference_pack=pack, n_ctx=512, n_chunks=9, **SMALL)
    with pytest.raises(CompareError, match=r"was made with a text with SHA-256 .*, not .*leave"):
        compare(path, reference_pack=pack, text="Another text.", **SMALL)
    same = compare(path, reference_pack=pack, text=TEXT, n_ctx=32, n_chunks=4, **SMALL)
    assert same[path.stem].kld_mean is not None


def test_a_corrupt_pack_is_refused_before_anything_is_measured(
    made: tuple[Path, Comparison], tmp_path: Path
) -> None:
    """Also if only its last chunk is."""
    folder, _ = made
    data = bytearray((folder / "m.pack").read_bytes())
    with zipfile.ZipFile(folder / "m.pack") as archive:
        data[archive.getinfo("rows-3.npy").header_offset + 1000] ^= 1
    (tmp_path / "m.pack").write_bytes(data)
    with pytest.raises(CompareError, match="is corrupt: Bad CRC-32"):
        compare(level_in(folder, "Q4_0"), reference_pack=tmp_path / "m.pack", **SMALL)


def test_a_pack_of_another_tokenizer(made: tuple[Path, Comparison], tiny_spm_path: Path) -> None:
    with pytest.raises(CompareError, match=r"with another tokenizer than that of .*285 tokens"):
        compare(tiny_spm_path, reference_pack=made[0] / "m.pack", **SMALL)


def test_a_level_with_another_pack_is_not_resumed(
    made: tuple[Path, Comparison], tmp_path: Path
) -> None:
    folder, _ = made
    results, path = tmp_path / "r.json", level_in(folder, "Q4_0")
    first = compare(path, reference_pack=folder / "m.pack", results=results, **SMALL)
    again = compare(path, reference_pack=folder / "m.pack", results=results, resume=True, **SMALL)
    assert again == first
    other = shutil.copy(folder / "m.pack", tmp_path)
    with zipfile.ZipFile(other, "a") as archive:
        archive.comment = b"another file"
    with pytest.raises(CompareError, match=r"made with a different reference_pack_sha256\."):
        compare(path, reference_pack=other, results=results, resume=True, **SMALL)


@pytest.mark.slow
def test_the_error_of_an_estimate_is_shown(tmp_path: Path) -> None:
    """Of the level that it is largest for, in the terminal and on the page."""
    pytest.importorskip("matplotlib")
    levels = (
        level("F16", 16 * 10**9, 0.0, 10, is_reference=True),
        level("Q8_0", 8 * 10**9, 0.001, 18, kld_sampling_se=1e-6),
        level("Q4_0", 5 * 10**9, 0.04, 25, kld_sampling_se=1e-3),
    )
    found = comparison(levels=levels, noise=None)
    shown = "off by at most 4.9 % (95 %)"  # 1.96 * 0.001 / 0.04
    assert noise_line(found) == f"noise: KLDs from the reference pack are {shown}"
    save_html(found, tmp_path / "page.html")
    assert shown in (tmp_path / "page.html").read_text("utf-8")
    assert noise_line(comparison(levels=levels[:1], noise=None)) is None


def test_what_a_pack_cannot_be_combined_with(tmp_path: Path) -> None:
    for options, message in (
        ({"reference_pack": "a", "save_reference_pack": "b"}, "exclude each other"),
        ({"reference_pack": "a", "quality": False}, "reference_pack needs quality=True"),
        ({"save_reference_pack": "a", "quality": False}, "save_reference_pack needs quality=True"),
    ):
        with pytest.raises(ValueError, match=message):
            compare("m.gguf", ["F16"], **options)
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        compare("m.gguf", ["F16"], save_reference_pack=tmp_path)
    with pytest.raises(CompareError, match=r"would have the name of a model\. Use m\.pack\."):
        compare("m.gguf", ["F16"], save_reference_pack=tmp_path / "m.gguf")


def test_a_pack_is_replaced_only_if_that_is_said(tmp_path: Path) -> None:
    """It takes as long as the measurement of its reference."""
    pack = tmp_path / "m.pack"
    with zipfile.ZipFile(pack, "w") as archive:
        archive.writestr("pack.json", "{}")
        archive.writestr("tokens.npy", "")
    earlier = pack.read_bytes()
    with pytest.raises(CompareError, match=r"m\.pack exists, .* overwrite=True replaces it"):
        compare("m.gguf", ["F16"], save_reference_pack=pack)
    assert pack.read_bytes() == earlier
    with pytest.raises(ModelNotFoundError):
        compare("m.gguf", ["F16"], save_reference_pack=pack, overwrite=True)


def test_the_command(made: tuple[Path, Comparison], tmp_path: Path) -> None:
    """Without levels, SRC is the level; the command that is recorded measures the same."""
    folder, _ = made
    path = level_in(folder, "Q4_0")
    done = localgen_command(
        "compare", path, "--reference-pack", folder / "m.pack", "--no-speed", "--n-threads", "1",
        "-o", tmp_path / "r.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "F32 (pack)" in done.stdout
    assert "\nnoise: KLDs from the reference pack are off by at most " in done.stdout
    found = Comparison.load(tmp_path / "r.json")
    command = found.settings["command"]
    assert "--n-ctx 32 --chunks 4" in command
    assert command.endswith("--reference-pack m.pack --n-threads 1")
