"""``--draft`` of each command with tiny models: the text stays, and a wrong model is one error."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from localgen import LocalModel
from localgen.cli.stats_line import stats_line
from models.make_tiny import make_llama_bpe
from tests.cli.test_chat import SMALL, TEMPLATE
from tests.cli.test_generate import assert_refused, localgen_command
from tests.fakes import fake_model

EIGHT = ("--max-new-tokens", "8", "--min-new-tokens", "8", "--no-do-sample")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A chat model and the same weights in F16, which nearly always agree."""
    folder = tmp_path_factory.mktemp("models")
    make_llama_bpe(folder / "large.gguf", chat_template=TEMPLATE)
    make_llama_bpe(folder / "small.gguf", chat_template=TEMPLATE, file_type="F16")
    return folder / "large.gguf", folder / "small.gguf"


def test_texts_are_those_without(pair: tuple[Path, Path]) -> None:
    """A job also records the draft model."""
    large, small = pair
    with LocalModel.from_pretrained(large, n_ctx=256, n_threads=1) as model:
        done = model.complete(["a", "the cat"], max_new_tokens=8, min_new_tokens=8)
        texts = [each.text for each in done]
    args = ("-m", large, "--draft", small, *SMALL, *EIGHT)
    assert localgen_command("generate", "the cat", *args).stdout == f"{texts[1]}\n"
    lines = '{"prompt": "a"}\n{"prompt": "the cat"}\n'
    job = localgen_command("batch", "-", "-", *args, input=lines)
    header, *records = map(json.loads, job.stdout.splitlines())
    assert header["generation_options"]["assistant_model"] == str(small)
    assert {each["line"]: each["text"] for each in records} == dict(enumerate(texts, 1))
    plain = localgen_command("chat", "-m", large, *SMALL, *EIGHT, input="hi\nyou\n")
    assert plain.stdout
    assert localgen_command("chat", *args, input="hi\nyou\n").stdout == plain.stdout


def test_stats_count_drafts() -> None:
    stats = fake_model().complete("ab", max_new_tokens=2).stats
    assert "draft" not in stats_line(stats)
    one = replace(stats, n_drafted=1, n_accepted=0)
    assert ", 0 of 1 drafted token accepted" in stats_line(one)
    none = replace(stats, no_speculation_because="deterministic=True")
    assert ", no drafts (deterministic=True)" in stats_line(none)


@pytest.mark.parametrize(
    ("command", "code"), [(["generate", "hi"], 2), (["chat"], 1), (["batch", "-", "-"], 2)]
)
def test_another_vocabulary(
    command: list[str], code: int, pair: tuple[Path, Path], tiny_spm_path: Path
) -> None:
    """The error names the first difference, and a job's comes once, not for each line."""
    given = {"chat": "hi\n", "batch": '{"prompt": "a"}\n{"prompt": "b"}\n'}.get(command[0], "")
    args = ("-m", pair[0], "--draft", tiny_spm_path, *SMALL)
    done = localgen_command(*command, *args, input=given)
    assert_refused(done, code, "--draft tiny-spm.gguf has another vocabulary: token 0 is '<unk>'")
    assert done.stderr.count("vocabulary:") == 1


def test_a_draft_model_that_is_missing(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """A job that cannot begin leaves no output."""
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps({"prompt": "a"}), "utf-8")
    args = ("-m", pair[0], "--draft", tmp_path / "none.gguf", *SMALL)
    assert_refused(localgen_command("batch", source, target, *args), 1, "none.gguf")
    assert not target.exists()
