"""Files of tasks that lm-eval skips: what is wrong with each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("yaml", reason="PyYAML comes with lm-eval")

from localgen.evaluate.task_files import unreadable_files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"task: birds\nmetric_list: [\n", "it is not YAML: .* in line 3"),
        (b"\x00\xff\x01", "it is not YAML: "),
        (b"[" * 20_000, "it is not YAML: "),
        (b"- a\n- b\n", "it has no names with values"),
        (b"", "it has no names with values"),
        (b"task: birds\ninclude: base.yaml\n", "it includes base.yaml, which does not exist"),
        (b"task: birds\ninclude: bad.yaml\n", "it includes itself"),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong(
    content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "good.yaml").write_text("task: a\nscore: !function own.score\n", "utf-8")
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    (found,) = unreadable_files(tmp_path)
    assert found.startswith(f"{path}: ")
    assert re.search(message, found)
