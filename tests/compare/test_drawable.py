"""Texts that fonts and UTF-8 do not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from localgen.compare import save_html, save_png
from localgen.compare.drawable import drawable
from tests.comparisons import comparison, level


def test_what_no_font_has_is_replaced_everywhere() -> None:
    given = comparison(
        source="a\udcff.gguf",
        settings={"command\ud800": ["x\x1b[31m"], "n_threads": 2},
        levels=(level("Q4\x00", 1, 0.1, 1.0),),
    )
    found = drawable(given)
    assert found.source == "a\ufffd.gguf"
    assert found.settings == {"command\ufffd": ["x\ufffd[31m"], "n_threads": 2}
    assert found.levels[0].name == "Q4\ufffd"
    assert found.levels[0].prefill_tps == given.levels[0].prefill_tps


def test_other_texts_stay() -> None:
    text = "é\n\t\r \xa0\u3000\u200f😀"
    assert drawable(text) == text
    assert drawable(comparison()) == comparison()


@pytest.mark.slow
def test_reports_are_written_of_texts_that_cannot_be_drawn(tmp_path: Path) -> None:
    """A file's name that is not UTF-8 ended the plots with matplotlib's TypeError."""
    pytest.importorskip("matplotlib")
    given = comparison(source="a\udcff\x1b.gguf")
    save_png(given, tmp_path / "a.png")
    save_html(given, tmp_path / "a.html")
    assert "a\ufffd\ufffd.gguf" in (tmp_path / "a.html").read_text("utf-8")
