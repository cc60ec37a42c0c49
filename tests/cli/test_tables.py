"""Tables: whole where they go to a file, cut into parts in a terminal, no word or figure broken."""

from __future__ import annotations

from pathlib import Path

import pexpect
import pytest

from localgen.cli.tables import print_table
from tests.cli.test_generate import COMMAND, ENVIRONMENT, localgen_command
from tests.comparisons import comparison
from tests.conftest import CHILD_SECONDS

COLUMNS = ("level", "size", "KLD", "", "same")
ROWS = (("Q8_0", "8 GB", "0.01 ± 0.001", "", "99 %"), ("Q4", "16 GB", "0.20 ± 0.010", "███", "-"))


def _shown(
    width: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """The table as it is printed to a terminal of that width, or to a file."""
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout.isatty", lambda: width is not None)
        patch.setenv("COLUMNS", str(width))
        print_table(COLUMNS, ROWS, right="size KLD")
    return capsys.readouterr().out


WHOLE = """
 level    size            KLD         same
 ─────────────────────────────────────────
 Q8_0     8 GB   0.01 ± 0.001         99 %
 Q4      16 GB   0.20 ± 0.010   ███   -

"""
TIGHT = """
 level   size           KLD       same
 ─────────────────────────────────────
 Q8_0    8 GB  0.01 ± 0.001       99 %
 Q4     16 GB  0.20 ± 0.010  ███  -

"""
WITHOUT_BAR = """
 level   size           KLD  same
 ────────────────────────────────
 Q8_0    8 GB  0.01 ± 0.001  99 %
 Q4     16 GB  0.20 ± 0.010  -

"""
TWO_PARTS = """
 level   size           KLD
 ───────────────────────────────
 Q8_0    8 GB  0.01 ± 0.001
 Q4     16 GB  0.20 ± 0.010  ███

 level  same
 ───────────
 Q8_0   99 %
 Q4     -

"""
# A terminal's width (None: it is a file) and what is printed there.
WIDTHS = (
    *((None, WHOLE), (200, WHOLE), (42, WHOLE), (41, TIGHT), (38, TIGHT)),
    *((35, WITHOUT_BAR), (33, WITHOUT_BAR), (32, TWO_PARTS), (10, WHOLE)),
)


@pytest.mark.parametrize(("width", "expected"), WIDTHS)
def test_a_table_has_the_width_of_its_terminal(
    width: int | None,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Cells were broken to "0.20 / ± 0.0 / 10"; where not even two columns fit, all is as it is."""
    assert _shown(width, monkeypatch, capsys) == expected


def test_prose_is_wrapped_between_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A repository's name was cut in two; its description may take a second line."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "44")
    rows = [("owner/model-GGUF", "words that go on to a second line"), ("a/b", "few")]
    print_table(("from", "model"), rows, prose=("model",))
    assert (
        capsys.readouterr().out
        == """
 from               model
 ───────────────────────────────────────────
 owner/model-GGUF   words that go on to a
                    second line
 a/b                few

"""
    )


def test_what_a_file_names_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "size"), [("a\x1b[2Jb\n", "1")])
    assert (
        " a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}   1\n" in capsys.readouterr().out
    )


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_a_comparison_in_a_terminal(tmp_path: Path, width: int) -> None:
    """No figure is broken or left out, and no line of the table is wider than the terminal."""
    comparison().save(tmp_path / "r.json")
    command = [*COMMAND[1:], "compare", "--from-json", str(tmp_path / "r.json")]
    environment = {**ENVIRONMENT, "COLUMNS": str(width)}
    child = pexpect.spawn(
        COMMAND[0], command, timeout=CHILD_SECONDS, env=environment, encoding="utf-8",
        dimensions=(50, width),
    )  # fmt: skip
    child.expect(pexpect.EOF)
    table = child.before.partition("noise:")[0].splitlines()
    assert max(map(len, table)) <= width
    for figures in ("25 ± 3 /s", "10.04 ± 0.10", "0.0400 ± 0.0040", "96.0 %", "4 tokens"):
        assert any(figures in line for line in table), figures
    assert (
        sum(line.startswith(" level ") for line in table) == {60: 2, 80: 2, 100: 2, 140: 1}[width]
    )


def test_a_comparison_in_a_file_is_whole(tmp_path: Path) -> None:
    comparison().save(tmp_path / "r.json")
    environment = {**ENVIRONMENT, "COLUMNS": "40"}
    done = localgen_command("compare", "--from-json", tmp_path / "r.json", env=environment)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(" Q4_0 ")]
    assert line.split()[-2:] == ["4", "tokens"]
    assert "5.00 GB" in line
