"""``localgen report``: the page of earlier results, and what is told before and after."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from localgen.cli import app
from localgen.compare import report as reports
from localgen.compare.results import Comparison
from tests.comparisons import BREAKOUT, comparison

SERVER = comparison(settings={"cpu": "Another CPU", "n_threads": 16})


class Report:
    """``localgen report`` in this process, with the writers of reports noted, not called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.written: list[tuple[str, Path, dict[str, Any]]] = []
        self.results: list[Comparison] = []
        for kind in ("html", "png"):
            monkeypatch.setattr(reports, f"save_{kind}", self._noting(kind))

    def _noting(self, kind: str) -> Any:
        def save(result: Comparison, path: Path, **limits: Any) -> None:
            self.results.append(result)
            self.written.append((kind, path, limits))

        return save

    def __call__(self, *args: object) -> tuple[int, str, str]:
        """Run the command; return its exit code, stdout and stderr."""
        self._monkeypatch.setattr("sys.argv", ["localgen", "report", *map(str, args)])
        code = app.run_command()
        said = self._capsys.readouterr()
        return code, said.out, said.err


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Report:
    return Report(monkeypatch, capsys)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the results of two machines."""
    comparison().save(tmp_path / "laptop.json")
    SERVER.save(tmp_path / "server.json")
    return tmp_path


def test_a_folder_s_page_is_made_again(report: Report, folder: Path) -> None:
    code, said, errors = report(folder)
    plain = {"memory": None, "max_kld": None, "heat_maps": ()}
    assert (code, errors, report.written) == (0, "", [("html", folder / "report.html", plain)])
    assert [part["cpu"] for part in report.results[0].settings.values()] == ["A CPU", "Another CPU"]
    lines = said.splitlines()
    assert lines[0].startswith("#1, A CPU, 2 threads: Keep Q4_0: it is the knee")
    assert lines[1] == "  for 4 GB: Q2_K (3.00 GB, mean KLD 0.9000, 22 tokens/s)"
    assert lines[-1] == f"report: {folder / 'report.html'}"


def test_limits_and_other_places(report: Report, folder: Path, tmp_path: Path) -> None:
    page, png = tmp_path / "r.htm", tmp_path / "r.png"
    limits = ["--budget", "7GB", "--max-kld", "0.03"]
    code, said, _ = report(folder / "laptop.json", "-o", page, "--png", png, *limits)
    given = {"memory": "7GB", "max_kld": 0.03}
    pages = [("html", page, {**given, "heat_maps": ()}), ("png", png, given)]
    assert (code, report.written) == (0, pages)
    assert said.startswith("Keep Q5_0: it is the smallest that fits in 7.00 GB and stays within")


def test_the_page_of_a_file_is_beside_it(report: Report, folder: Path) -> None:
    assert report(folder / "server.json")[0] == 0
    assert report.written[0][1] == folder / "report.html"


def test_other_json_is_left_out_and_named(report: Report, folder: Path) -> None:
    (folder / "notes.json").write_text("{}")
    code, _, said = report(folder)
    assert code == 0
    assert said.startswith("localgen: left out: ")
    assert "notes.json" in said


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["none"], 1, "none: No such file"),
        (["."], 1, "there is no result of a comparison. Make one with: localgen compare MODEL"),
        ([".", "-o", "r.txt"], 1, "the wrong extension"),
        ([".", "-o", "taken/r.html"], 1, "taken is not a folder"),
        ([".", "--budget", "much"], 2, "not an amount of memory"),
        ([".", "--budget", "0"], 2, "no memory at all"),
        ([".", "--max-kld", "nan"], 2, "--max-kld must be a number of at least 0"),
        ([".", "--max-kld", "-1"], 2, "--max-kld must be a number of at least 0"),
    ],
)
def test_what_cannot_work_is_told(
    report: Report,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    found, said, errors = report(*args)
    assert (found, said, report.written) == (code, "", [])
    assert message in errors


def test_names_in_results_cannot_control_the_terminal(report: Report, tmp_path: Path) -> None:
    comparison(settings={"cpu": f"\x1b[2J{BREAKOUT}", "n_threads": 1}).save(tmp_path / "a.json")
    SERVER.save(tmp_path / "b.json")
    _, said, _ = report(tmp_path)
    assert "\x1b" not in said
    assert os.linesep.strip("\r") in said
