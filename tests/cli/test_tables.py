"""Tables: whole in a pipe, and no word or figure broken in a terminal."""

from __future__ import annotations

from pathlib import Path

import pexpect
import pytest

from localgen.cli.tables import print_table
from tests.cli.test_generate import COMMAND, ENVIRONMENT, localgen_command
from tests.comparisons import comparison
from tests.conftest import CHILD_SECONDS

COLUMNS = ("level", "size", "KLD", "", "same")
ROWS = (("Q8_0", "8 GB", "0.01 ±0.001", "", "99 %"), ("Q4", "16 GB", "0.20 ±0.010", "███", "-"))


def _shown(
    width: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """Print the table to a terminal of that width, or to a file."""
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout.isatty", lambda: width is not None)
        patch.setenv("COLUMNS", str(width))
        print_table(COLUMNS, ROWS, right=("size", "KLD"), wrapped=("KLD",))
    return capsys.readouterr().out


WHOLE = """
level   size          KLD       same
────────────────────────────────────
Q8_0    8 GB  0.01 ±0.001       99 %
Q4     16 GB  0.20 ±0.010  ███  -

"""
WITHOUT_BAR = """
level   size          KLD  same
───────────────────────────────
Q8_0    8 GB  0.01 ±0.001  99 %
Q4     16 GB  0.20 ±0.010  -

"""
WRAPPED = """
level   size     KLD  same
──────────────────────────
Q8_0    8 GB    0.01  99 %
              ±0.001
Q4     16 GB    0.20  -
              ±0.010

"""
RECORDS = """
level  Q8_0
size   8 GB
KLD    0.01 ±0.001
same   99 %

level  Q4
size   16 GB
KLD    0.20 ±0.010
same   -

"""
# A terminal's width (None: it is a file) and what is printed there.
WIDTHS = (
    *((None, WHOLE), (200, WHOLE), (36, WHOLE), (35, WITHOUT_BAR), (31, WITHOUT_BAR)),
    *((26, WRAPPED), (25, RECORDS), (18, RECORDS)),
)


@pytest.mark.parametrize(("width", "expected"), WIDTHS)
def test_a_table_has_the_width_of_its_terminal(
    width: int | None,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Regression: cells were broken to "0.20 / ± 0.0 / 10"."""
    assert _shown(width, monkeypatch, capsys) == expected


def test_a_cell_wider_than_the_terminal_is_folded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is cut off, however narrow the terminal is."""
    assert "".join(_shown(12, monkeypatch, capsys).split()).count("±0.001") == 1


def test_prose_is_wrapped_between_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: a repository's name was cut in two; only its description may wrap."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    rows = [("owner/model-GGUF", "words that go on to a second line"), ("a/b", "few")]
    print_table(("from", "model"), rows, wrapped=("model",))
    assert capsys.readouterr().out.splitlines() == [
        "",
        "from              model",
        "─" * 40,
        "owner/model-GGUF  words that go on to a",
        "                  second line",
        "a/b               few",
        "",
    ]


def test_what_a_file_names_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is it markup for the terminal's colours."""
    print_table(("name", "size"), [("a\x1b[2Jb\n", "1"), ("[red]:smile:", "2")])
    out = capsys.readouterr().out
    assert "\na\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}       1" in out
    assert "\n[red]:smile:  2" in out


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
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
    table = child.before.partition("localgen:")[0]
    assert max(map(len, table.splitlines())) <= width
    assert all(
        word in table.split()
        for word in ["25", "±3", "10.04", "±0.10", "0.0400", "±0.0040", "0.080", "4.0"]
    )
    n_titles = sum(line.startswith("level ") for line in table.splitlines())
    assert n_titles == (1 if width >= 80 else 7)


def test_a_comparison_in_a_file_is_whole(tmp_path: Path) -> None:
    """One line a level, whatever the terminal's width."""
    comparison().save(tmp_path / "r.json")
    environment = {**ENVIRONMENT, "COLUMNS": "40"}
    done = localgen_command("compare", "--from-json", tmp_path / "r.json", env=environment)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("Q4_0 ")]
    assert line.split()[-2:] == ["4", "tokens"]
    assert "5.00 GB" in line
