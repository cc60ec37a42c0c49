"""``localgen imatrix``, and what ``localgen quantize`` takes for importance and types."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from localgen.cli import app
from localgen.cli import imatrix as command
from localgen.errors import GenerationInterrupted
from localgen.gguf.imatrix_file import read_sums
from localgen.quantization.imatrix_result import ImportanceMatrix

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run(*args)`` runs the command in this process: its exit code, stdout and stderr."""

    def run(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["localgen", *map(str, args)])
        code = app.run_command()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_matrix_is_made_resumed_and_merged(run: Run, tiny_bpe_path: Path, tmp_path: Path) -> None:
    text, other, first, second = (
        tmp_path / name for name in ("a.txt", "b.txt", "1.gguf", "2.gguf")
    )
    text.write_text("The quick brown fox jumps over the lazy dog. " * 9)
    other.write_text("Pack my box with five dozen liquor jugs! " * 9)
    size = ("--n-ctx", 32, "--n-threads", 1)
    common = (tiny_bpe_path, text, *size)
    code, out, _ = run("imatrix", *common, "-o", first, "--chunks", 1)
    assert (code, out) == (0, f"{first}: 14 tensors from 1 chunk of 32 tokens\n")
    assert run("imatrix", *common, "-o", first, "--chunks", 2, "--resume")[0] == 0
    assert run("imatrix", tiny_bpe_path, other, *size, "-o", second, "--chunks", 1)[0] == 0
    code, out, _ = run(
        "imatrix", "--merge", first, "--merge", second, "-o", tmp_path / "3.gguf", "--json"
    )
    assert code == 0
    assert json.loads(out)["n_chunks"] == 3
    assert read_sums(tmp_path / "3.gguf").datasets == ("a.txt", "b.txt")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "give either MODEL or --merge FILE, at least twice"),
        (["model.gguf", "--merge", "a.gguf"], "give either MODEL or --merge FILE"),
        (["--merge", "a.gguf", "--chunks", "3"], "--chunks cannot be used with --merge"),
        (
            ["--merge", "a.gguf", "--no-check-memory", "--device", "cpu"],
            "--device, --no-check-memory cannot be used with --merge",
        ),
        (["--merge", "a.gguf"], "merging needs at least two files, got 1"),
    ],
)
def test_options_that_would_have_no_effect(args: list[str], message: str, run: Run) -> None:
    code, _, err = run("imatrix", *args)
    assert code == 2
    assert message in err


@pytest.mark.parametrize(
    ("n_chunks", "message"),
    [
        (None, "interrupted before the first chunk; nothing was saved"),
        (
            3,
            "interrupted; 3 chunks saved to a.gguf. To resume, run: localgen imatrix model.gguf -o "
            "a.gguf --resume",
        ),
    ],
)
def test_an_interrupt_says_what_is_saved(
    n_chunks: int | None, message: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        error = GenerationInterrupted("interrupted")
        if n_chunks:
            error.partial = ImportanceMatrix(Path("a.gguf"), n_chunks, 512, 9, {}, {}, (), 1.0)
        raise error

    monkeypatch.setattr(command, "compute", interrupted)
    code, _, err = run("imatrix", "model.gguf", "-o", "a.gguf", "--overwrite")
    assert code == 130
    assert message in err


def test_quantize_names_its_flags(run: Run, tiny_bpe_path: Path, tmp_path: Path) -> None:
    for flag, message in (
        ("ffn_down", "--tensor-type must be PATTERN=TYPE, got 'ffn_down'"),
        ("nothing=Q8_0", "--tensor-type nothing=Q8_0 has no effect"),
    ):
        code, _, err = run(
            "quantize", tiny_bpe_path, "-t", "Q4_0", "-o", tmp_path, "--tensor-type", flag
        )
        assert code == 2
        assert message in err
    code, out, _ = run(
        *("quantize", tiny_bpe_path, "-t", "Q4_0", "-o", tmp_path, "--json"),
        *("--tensor-type", "ffn_down=F16", "--token-embedding-type", "Q8_0"),
    )
    assert code == 0
    assert json.loads(out)[0]["types"]["F16"] == 2
