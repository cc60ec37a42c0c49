"""Constraints on the command line: refused before a model loads, and what is said of a cut text."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from localgen import GenerationConfig, ModelNotFoundError
from localgen.cli.constraint_flags import cut_message
from localgen.cli.options import GenerationOptions
from tests.cli.test_generate import assert_refused, localgen_command


@pytest.mark.parametrize("text", ['{"type": "object"}', "{}\n" * 5000, "none.json"])
def test_a_text_where_a_file_is_expected(text: str) -> None:
    """A whole text may be too long for a name, or have characters that no name has."""
    expected = "no such file; --json-schema takes the name of a file, not its text"
    with pytest.raises(ValueError, match=f"{expected}$"):  # as for a schema that is none: exit 2
        GenerationOptions(json_schema=Path(text)).config()


def test_a_missing_draft_model_is_an_error_before_anything_is_opened() -> None:
    with pytest.raises(ModelNotFoundError, match="no file or alias nope"):
        GenerationOptions(draft="nope").config()


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (["a, b"], "only be 'a, b'; repeat it for each text, as in --choice a --choice b\n"),
        (["a"], "only be 'a'; repeat it for each text\n"),
        (["a,b", "c"], ""),
    ],
)
def test_a_single_choice_is_said(
    choice: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is allowed; one with commas was probably meant as a list."""
    GenerationOptions(choice=choice).config()
    err = capsys.readouterr().err
    assert err.endswith(said)
    assert bool(err) == bool(said)


def test_refused_before_a_model_loads(tmp_path: Path) -> None:
    """There is no such model here, and the schema is the error."""
    schema = tmp_path / "s.json"
    schema.write_text('{"uniqueItems": true}')
    done = localgen_command("generate", "hi", "-m", "missing.gguf", "--json-schema", schema)
    assert_refused(done, 2, "localgen: --json-schema: $.uniqueItems cannot be enforced")


@pytest.mark.parametrize(
    ("reason", "match", "where"),
    [
        ("length", None, "after 3 tokens (--max-new-tokens or --n-ctx)"),
        ("stop", "x", "before 'x' (--stop)"),
        ("time", None, "after 3 tokens (--max-time)"),
    ],
)
def test_what_cut_a_text(reason: str, match: str | None, where: str) -> None:
    cut: Any = SimpleNamespace(
        finish_reason=reason, stop_match=match, is_valid=False, stats=SimpleNamespace(n_new=3)
    )
    config = GenerationConfig(regex="a+")
    assert cut_message(cut, config) == f"the text was cut {where}, so it does not satisfy --regex"
    cut.is_valid = True
    assert cut_message(cut, config) is None
    cut.is_valid = None
    assert cut_message(cut, GenerationConfig()) is None


def test_a_cut_text_fails_closed(tiny_bpe_path: Path) -> None:
    """stdout has what came; the exit code and stderr say that it does not fit its constraint."""
    choices = ("--choice", "the cat and the end", "--choice", "hello")
    args = ("generate", "the cat", "-m", tiny_bpe_path, "--n-threads", "1", *choices)
    cut = localgen_command(*args, "--max-new-tokens", "2", "--json")
    assert cut.returncode == 1
    assert json.loads(cut.stdout)["is_valid"] is False
    assert cut.stderr.endswith("so it does not satisfy --choice\n")
    done = localgen_command(*args)
    assert (done.returncode, done.stderr) == (0, "")
