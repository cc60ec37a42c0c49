"""``localgen compare``: options that would have no effect are refused, not ignored."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from localgen import CompareError, GenerationInterrupted
from localgen._util.shell import command_of
from localgen.cli import app
from localgen.cli import compare as command
from localgen.compare import report
from localgen.compare.level_result import LevelResult
from localgen.compare.results import Comparison
from tests.comparisons import comparison

LEVEL = LevelResult(name="Q8_0", file_bytes=10, bits_per_weight=8.5)
MEASURED = Comparison(source="m.gguf", settings={}, levels=(LEVEL,))


class Command:
    """``localgen compare`` in this process, with an earlier result."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.earlier, self.output = folder / "earlier.json", folder / "out.json"
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        MEASURED.save(self.earlier)

    def __call__(self, *args: object) -> tuple[int, str]:
        """Run the command; return the exit code and stderr."""
        self._monkeypatch.setattr("sys.argv", ["localgen", "compare", *map(str, args)])
        return app.run_command(), self._capsys.readouterr().err


@pytest.fixture
def compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    "args",
    [
        ["--levels", "F16"],
        ["--kv-types", "f16"],
        ["--text", "text.txt"],
        ["--n-ctx", "512"],  # the default value is refused as well
        ["--chunks", "16"],
        ["--rounds", "-7"],
        ["--no-speed"],
        ["--no-quality"],
        ["--imatrix", "imatrix.gguf"],
        ["--tasks", "demo"],
        ["--task-limit", "5"],
        ["--include-path", "tasks"],
        ["--devices", "cpu"],
        ["--chats", "auto"],
        ["--depths", "1024"],
        ["--energy"],
        ["--keep", "/nonexistent"],
        ["--n-threads", "2"],
        ["--resume"],
    ],
    ids=" ".join,
)
def test_nothing_is_measured_with_an_earlier_result(args: list[str], compare: Command) -> None:
    """Regression: with --from-json, options for measuring were ignored, even invalid ones."""
    code, said = compare("--from-json", compare.earlier, "-o", compare.output, *args)
    assert code == 2
    assert f"{args[0]} cannot be used with --from-json" in said
    assert not compare.output.exists()


def test_columns_without_a_figure_are_left_out(
    compare: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["localgen", "compare", "--from-json", str(compare.earlier)])
    assert app.run_command() == 0
    titles = capsys.readouterr().out.split("\n")[1]
    assert titles.split() == ["level", "size", "bits/w"]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["arc_easy,demo"], ["arc_easy", "demo"]),
        (["arc_easy", " demo "], ["arc_easy", "demo"]),
        (["a,b.jsonl"], ["a,b.jsonl"]),
    ],
)
def test_tasks_are_separated_by_commas_except_in_a_files_name(
    given: list[str],
    names: list[str],
    compare: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def measure(*_: object, tasks: list[str], **__: object) -> Comparison:
        asked.extend(tasks)
        return MEASURED

    monkeypatch.setattr("localgen.cli.compare.measure", measure)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b.jsonl").write_text("", "utf-8")
    assert compare("smollm2", *(f"--tasks={each}" for each in given))[0] == 0
    assert asked == names


def test_all_that_cannot_be_used_is_named(compare: Command) -> None:
    code, said = compare("--from-json", compare.earlier, "--resume", "--levels", "NOPE")
    assert code == 2
    assert "--levels" in said
    assert "--resume" in said


def test_earlier_results_are_written_as_one(compare: Command) -> None:
    """Regression: -o was ignored with --from-json."""
    other = dataclasses.replace(MEASURED, settings={"cpu": "Another CPU"})
    other.save(compare.earlier.with_name("other.json"))
    earlier = [
        "--from-json",
        compare.earlier,
        "--from-json",
        compare.earlier.with_name("other.json"),
    ]
    assert compare(*earlier, "-o", compare.output) == (0, "")
    assert Comparison.load(compare.output) == Comparison.merged([MEASURED, other])
    # What was merged can be merged again, and counts once.
    again = compare.output.with_name("again.json")
    assert compare(*earlier, "--from-json", compare.output, "-o", again) == (0, "")
    assert Comparison.load(again) == Comparison.load(compare.output)


def test_an_earlier_result_is_replaced_only_if_asked(compare: Command) -> None:
    """Regression: -o of the same command again replaced the file."""
    comparison().save(compare.output)
    old = compare.output.read_text("utf-8")
    code, said = compare("no-model", "-o", compare.output)
    assert (code, compare.output.read_text("utf-8")) == (1, old)
    assert "--resume keeps them, and --overwrite starts over" in said
    code, said = compare("--from-json", compare.earlier, "-o", compare.output)
    assert (code, compare.output.read_text("utf-8")) == (1, old)
    assert "--overwrite replaces them" in said
    assert compare("--from-json", compare.earlier, "-o", compare.output, "--overwrite")[0] == 0
    assert Comparison.load(compare.output) == MEASURED


@pytest.mark.parametrize(
    ("flag", "needed"),
    [
        ("--resume", "--output, the file of the results"),
        ("--overwrite", "--output or --save-reference-pack, a file"),
    ],
)
def test_what_is_done_with_results_needs_their_file(
    flag: str, needed: str, compare: Command
) -> None:
    code, said = compare("no-model", flag)
    assert (code, said) == (2, f"localgen: {flag} needs {needed}\n")


def test_each_machine_has_its_recommendation(compare: Command) -> None:
    """Regression: the levels of all machines were weighed against each other."""
    slow, fast = comparison(), comparison(settings={"cpu": "Another CPU"})
    slow.save(compare.earlier)
    fast.save(compare.output)
    code, said = compare("--from-json", compare.earlier, "--from-json", compare.output)
    sentence = slow.recommend().sentence
    assert code == 0
    assert f"#1, A CPU, 2 threads: {sentence}\n#2, Another CPU: {sentence}\n" in said


@pytest.mark.parametrize("args", [["--max-kld", "0.1"], ["--budget", "4GB"]], ids=" ".join)
def test_no_level_to_keep_without_quality(args: list[str], compare: Command) -> None:
    """Regression: a limit was ignored if quality was not measured."""
    code, said = compare("no-model", "--no-quality", *args)
    assert code == 2
    assert f"{args[0]} cannot be used with --no-quality" in said
    code, said = compare("--from-json", compare.earlier, *args)
    assert code == 1
    assert "no level's quality was measured" in said
    assert compare("--from-json", compare.earlier) == (0, "")


@pytest.mark.parametrize(
    ("n_saved", "is_written", "said"),
    [
        (1, True, "results for 1 of 4 levels are saved in {}. To resume, run: {}"),
        (0, True, "nothing was saved"),
        (1, False, "nothing was saved"),
    ],
)
def test_interrupt(
    n_saved: int, is_written: bool, said: str, compare: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C exits with 130, and says what the file has and the command that continues."""
    done = [LevelResult(name="F16", perplexity=9.0)] * n_saved
    interrupted = GenerationInterrupted("")
    interrupted.partial = dataclasses.replace(MEASURED, levels=(LEVEL, *done))

    def measure(*_: object, **__: object) -> None:
        raise interrupted

    monkeypatch.setattr(command, "measure", measure)
    args = ["m.gguf", "--levels", "F16,Q8_0", "--kv-types", "f16,q8_0"]
    written = ["-o", str(compare.output)] if is_written else []
    again = command_of(["localgen", "compare", *args, *written, "--resume"])
    expected = f"localgen: interrupted; {said.format(compare.output, again)}\n"
    assert compare(*args, *written) == (130, expected)


def test_results_that_cannot_be_saved_are_printed(
    compare: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measuring may have taken hours: the table is printed, then the error."""

    def measure(*_: object, **__: object) -> None:
        unsaved = CompareError("out.json cannot be written: No space left on device")
        unsaved.partial = MEASURED
        raise unsaved

    monkeypatch.setattr(command, "measure", measure)
    shown: list[Comparison] = []
    monkeypatch.setattr(command, "print_tables", shown.append)
    code, said = compare("m.gguf", "--levels", "Q8_0")
    assert (code, shown) == (1, [MEASURED])
    assert said == "localgen: out.json cannot be written: No space left on device\n"


def test_each_output_is_made_even_if_another_fails(
    compare: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def fail(name: str) -> Callable[..., None]:
        def output(*_: object, **__: object) -> None:
            made.append(name)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

        return output

    monkeypatch.setattr(command, "print_tables", fail("stdout"))
    monkeypatch.setattr(report, "save_png", fail("r.png"))
    monkeypatch.setattr(report, "save_html", fail("r.html"))
    pictures = (
        "--png",
        compare.output.with_suffix(".png"),
        "--html",
        compare.output.with_suffix(".html"),
    )
    code, said = compare("--from-json", compare.earlier, *pictures)
    assert (code, made) == (1, ["stdout", "r.png", "r.html"])
    assert said == "localgen: r.html: No space left on device\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "give either SRC or --from-json FILE"),
        (["m.gguf", "--from-json", "r.json"], "give either SRC or --from-json FILE"),
        (["m.gguf", "--resume"], "--resume needs --output, the file of the results"),
    ],
)
def test_what_to_compare_is_given_once(compare: Command, args: list[str], message: str) -> None:
    assert compare(*args) == (2, f"localgen: {message}\n")


def test_an_error_that_nobody_expected_has_its_traceback(
    compare: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a bug, and one line would hide where."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(command, "measure", fail)
    with pytest.raises(ZeroDivisionError):
        compare("m.gguf")
