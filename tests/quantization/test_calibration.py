"""Calibration texts: what may be given, and the default."""

from __future__ import annotations

from pathlib import Path

import pytest

from localgen import QuantizeError
from localgen.compare.settings import default_text as evaluation_text
from localgen.quantization import calibration
from localgen.quantization.calibration import calibration_texts, default_text


def test_texts_and_files(tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    path.write_text("two\n", "utf-8")
    found = calibration_texts(["one", path])
    assert [(each.name, each.text) for each in found] == [("text 1", "one"), ("b.txt", "two\n")]
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"b\.txt cannot be used: it is not UTF-8"):
        calibration_texts(path)


def test_a_text_that_is_given_twice_is_told(tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    path.write_text("one", "utf-8")
    with pytest.warns(UserWarning, match=r"^b\.txt is the same text as text 1, which counts once"):
        calibration_texts(["one", "two", path])


def test_the_default_is_long_and_not_what_levels_are_compared_on() -> None:
    (found,) = calibration_texts(None)
    assert len(found.text) > 100_000
    assert found.text not in evaluation_text()
    assert found.sha256 == default_text().sha256


def test_a_python_without_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_MODULES", ("sys", "no_such_module"))
    with pytest.raises(QuantizeError, match=r"Give a text of your own"):
        calibration_texts(None)
