"""What may be named as a level, and what each is called in the results."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from localgen.compare import compare
from localgen.compare.levels import levels_of


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([], "levels is empty: name at least one"),
        ([""], "levels is empty: name at least one"),
        (["", " "], "levels is empty: name at least one"),
        (["Q8_0", "", "F16"], r"levels has an empty name \(Q8_0,,F16\)"),
        (["Q8_0", "F16", "Q8_0"], r"levels has Q8_0 twice \(Q8_0,F16,Q8_0\)"),
        (["q8_0", "Q8_0"], "levels has Q8_0 twice"),
        (["q4_k", "Q4_K_M"], "levels has Q4_K_M twice"),
    ],
)
def test_each_level_is_named_once(levels: list[str], message: str, tiny_bpe_path: Path) -> None:
    """Regression: a level named twice was measured twice, and an empty one was ". is a folder"."""
    with pytest.raises(ValueError, match=message):
        compare(tiny_bpe_path, levels)


@pytest.mark.parametrize(
    ("kv_types", "message"),
    [
        ([], "kv_types is empty"),
        (["f16", ""], "kv_types must be one of .*, got ''"),
        (["f16", "q8_0", "f16"], "kv_types has f16 twice"),
    ],
)
def test_each_type_of_kv_cache_is_named_once(
    kv_types: list[str], message: str, tiny_bpe_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        compare(tiny_bpe_path, ["F32"], kv_types=kv_types)


def test_a_file_by_two_names(tiny_bpe_path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.gguf"
    link.symlink_to(tiny_bpe_path)
    with pytest.raises(ValueError, match="levels has link twice"):
        compare(tiny_bpe_path, [tiny_bpe_path, link])


@pytest.mark.slow
def test_two_files_of_one_name(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """Regression: they shared one row of the results."""
    paths = [str(tmp_path / folder / "m.gguf") for folder in ("a", "b")]
    for path in paths:
        Path(path).parent.mkdir()
        shutil.copy(tiny_bpe_path, path)
    assert [level.name for level in levels_of([*paths, "Q8_0"])] == [*paths, "Q8_0"]
    assert [level.name for level in levels_of([paths[0], "Q8_0"])] == ["m", "Q8_0"]
    text = "the cat sat on the mat and ate " * 20
    found = compare(tiny_bpe_path, paths, text=text, n_ctx=16, n_chunks=1, speed=False, n_threads=1)
    assert {level.label for level in found.levels} == set(paths)
