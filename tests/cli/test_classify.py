"""``localgen classify`` on a tiny model: lines in, JSON Lines out, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localgen import LocalModel
from tests.cli.test_generate import Result, localgen_command

LABELS = ["--label", "cat", "--label", "the cat"]


@pytest.fixture
def classify(tiny_bpe_path: Path) -> Any:
    """``classify(*args)`` runs ``localgen classify args… -m TINY``."""

    def run(*args: object, **options: Any) -> Result:
        return localgen_command(
            "classify", *args, "-m", tiny_bpe_path, "--n-threads", "1", "--n-ctx", "512", **options
        )

    return run


def test_each_line_gives_an_object(classify: Any, tiny: LocalModel, tmp_path: Path) -> None:
    """The same as the library's, blank lines left out."""
    source, task = tmp_path / "texts.txt", tmp_path / "task.txt"
    source.write_bytes(b"\xef\xbb\xbfhello\r\n\r\n the cat \n")
    task.write_text("hello the\n", "utf-8")
    template = r"{text}\nso: {label}!"
    done = classify(
        *(source, *LABELS, "--template", template, "--instruction", task),
        *("--normalization", "mean"),
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    expected = tiny.classify(
        ["hello", "the cat"],
        ["cat", "the cat"],
        template="{text}\nso: {label}!",
        instruction="hello the",
        normalization="mean",
    )
    assert [each["text"] for each in found] == ["hello", "the cat"]
    for each, scores in zip(found, expected, strict=True):
        assert each["label"] == scores.text
        assert each["probabilities"] == pytest.approx(scores.probabilities, abs=1e-3)


def test_stdin_is_read_line_by_line(classify: Any) -> None:
    done = classify("-", *LABELS, input="hello\nthe cat")
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["hello", "the cat"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--label", "a", "--label", "a"], "labels 0 and 1 are equal"),
        (["--label", "a,b"], "repeat it for each text, as in --label a --label b"),
        ([*LABELS, "--template", "x"], "--template must have {text} once"),
        ([*LABELS, "--normalization", "max"], "--normalization must be one of"),
        ([], "Missing option '--label'"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_read(args: list[str], message: str) -> None:
    done = localgen_command("classify", "missing.txt", "-m", "missing.gguf", *args)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["some text"], 1, "'some text': no such file; IN is a file of texts, one per line"),
        (["-", "--instruction", "Be\nkind"], 2, "--instruction takes the name of a file"),
    ],
)
def test_a_text_where_a_file_is_expected(args: list[str], code: int, message: str) -> None:
    done = localgen_command("classify", *args, "-m", "missing.gguf", *LABELS)
    assert done.returncode == code
    assert message in done.stderr
