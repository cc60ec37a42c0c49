"""Files and folders that commands write: each option that names one treats its folder alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from localgen.cli import app
from localgen.cli import compare as compare_command
from localgen.cli import eval as eval_command
from localgen.cli.commands import PLACES
from tests.comparisons import comparison

TEXT = "The quick brown fox jumps over the lazy dog. " * 40
ONE_CHUNK = ("--n-ctx", "32", "--chunks", "1", "--n-threads", "1")


def _compare(model: Path, folder: Path) -> list[object]:
    text = folder / "text.txt"
    text.write_text(TEXT)
    return ["compare", model, "--levels", "F32", "--text", text, "--no-speed", *ONE_CHUNK]


def _report(_model: Path, folder: Path) -> list[object]:
    comparison().save(folder / "earlier.json")
    return ["report", folder / "earlier.json"]


def _earlier(_model: Path, folder: Path) -> list[object]:
    comparison().save(folder / "earlier.json")
    return ["compare", "--from-json", folder / "earlier.json"]


def _imatrix(model: Path, folder: Path) -> list[object]:
    text = folder / "text.txt"
    text.write_text(TEXT)
    return ["imatrix", model, text, *ONE_CHUNK]


def _quantize(model: Path, _folder: Path) -> list[object]:
    return ["quantize", model, "--type", "Q8_0"]


def _eval(model: Path, _folder: Path) -> list[object]:
    pytest.importorskip("lm_eval")
    return ["eval", model, "--tasks", "animals"]


def _batch(model: Path, folder: Path) -> list[object]:
    (folder / "in.jsonl").write_text(json.dumps({"prompt": "the", "max_new_tokens": 1}))
    return ["batch", "--model", model, folder / "in.jsonl"]


# Each option that names what is written: its command, the arguments before it, and a file's name.
OUTPUTS: list[tuple[str, str, Callable[[Path, Path], list[object]], str]] = [
    ("compare", "--output", _compare, "r.json"),
    ("compare", "--save-reference-pack", _compare, "r.pack"),
    ("compare", "--keep", _compare, ""),
    ("compare", "--png", _earlier, "r.png"),
    ("compare", "--html", _earlier, "r.html"),
    ("report", "--output", _report, "r.html"),
    ("report", "--png", _report, "r.png"),
    ("imatrix", "--output", _imatrix, "r.gguf"),
    ("quantize", "--output", _quantize, ""),
    ("eval", "--output", _eval, "r.json"),
    ("batch", "", _batch, "r.jsonl"),
]
# Written as the others, and tested where a run takes seconds, not here.
ELSEWHERE = {("quantize", "--losses"), ("batch", "--speeds")}


@pytest.fixture(autouse=True)
def no_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """``localgen eval`` without the run of lm-eval."""
    monkeypatch.setattr(eval_command, "_evaluated", lambda *_: {"results": {}})
    monkeypatch.setattr(eval_command, "_print", lambda _: None)


@pytest.fixture
def run(
    tiny_bpe_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str]]:
    """``run(args, flag, output)`` runs a command here: its exit code and stderr."""

    def run(args: Callable[[Path, Path], list[object]], flag: str, output: object) -> Any:
        written = [output] if not flag else [f"{flag}={output}"]
        argv = ["localgen", *args(tiny_bpe_path, tmp_path), *written]
        monkeypatch.setattr("sys.argv", [str(each) for each in argv])
        return app.run_command(), capsys.readouterr().err

    return run


def _ids() -> list[str]:
    return [f"{command} {flag}".strip() for command, flag, _, _ in OUTPUTS]


@pytest.mark.parametrize(("command", "flag", "args", "name"), OUTPUTS, ids=_ids())
def test_a_missing_folder_is_made(
    command: str, flag: str, args: Any, name: str, run: Any, tmp_path: Path
) -> None:
    """Regression: imatrix and eval refused what compare, report and quantize made."""
    output = tmp_path / "new folder" / "ä" / name
    code, said = run(args, flag, output)
    assert code == 0, said
    assert output.exists(), command


@pytest.mark.parametrize(("command", "flag", "args", "name"), OUTPUTS, ids=_ids())
def test_a_file_in_place_of_a_folder_is_refused_before_anything_runs(
    command: str,
    flag: str,
    args: Any,
    name: str,
    run: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError(command)

    monkeypatch.setattr(compare_command, "print_tables", fail)
    (tmp_path / "taken").touch()
    code, said = run(args, flag, tmp_path / "taken" / "inner" / name)
    assert code == app.ERROR, said
    assert said.startswith("localgen: "), said
    assert f"{tmp_path / 'taken'}" in said
    assert "taken is not a folder" in said


@pytest.mark.parametrize(
    ("flag", "args", "name"), [each[1:] for each in OUTPUTS if each[1]], ids=_ids()[:-1]
)
def test_the_home_folder_is_meant_by_a_tilde(
    flag: str, args: Any, name: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell does not replace it after "=", and a folder "~" was made."""
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    code, said = run(args, flag, f"~/out/{name}")
    assert code == 0, said
    assert (tmp_path / "home" / "out" / name).exists()
    assert not (tmp_path / "~").exists()


def _written(name: str) -> Iterator[str]:
    """Yield the options of a command whose help says that they write."""
    words = ("Write", "Save", "Keep")
    for parameter in typer.main.get_command(app.app).commands[name].params:  # type: ignore[attr-defined]
        help_text = getattr(parameter, "help", None) or ""
        is_place = str(parameter.metavar) in ("FILE", "DIR")
        if is_place and help_text.startswith(words) and parameter.opts[0].startswith("-"):
            yield next(each for each in parameter.opts if each.startswith("--"))


def test_each_option_that_names_an_output_is_tested() -> None:
    """Constraints such as --json-schema say "Write JSON that …" and read their files."""
    reads = {"--json-schema", "--grammar"}
    found = {(name, flag) for name in PLACES if name != "models" for flag in _written(name)}
    found = {(name, flag) for name, flag in found if flag not in reads}
    listed = {(command, flag) for command, flag, _, _ in OUTPUTS if flag}
    assert found <= listed | ELSEWHERE
    assert {flag for _, flag in listed} >= {"--output"}
