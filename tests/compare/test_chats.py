"""Greedy replies to chats, beside the reference's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localgen import CompareError
from localgen.compare import Comparison, compare
from localgen.compare.chats import N_NEW, agreement
from localgen.compare.level_result import Divergence
from models.make_tiny import make_llama_bpe

TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'tool' %}{{ raise_exception('no tools') }}"
    "{% endif %}{{ message.content }} {% endfor %}{% if add_generation_prompt %}the{% endif %}"
)
OFF: dict[str, Any] = {"speed": False, "quality": False, "n_threads": 1}


def chat_line(content: str, role: str = "user") -> str:
    return json.dumps({"messages": [{"role": role, "content": content}]})


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chat") / "tiny.gguf"
    make_llama_bpe(path, chat_template=TEMPLATE)
    return path


def test_agreement_by_hand() -> None:
    """Of four, one is equal; the others differ after 1, 2 and 7 tokens."""
    replies = [("a", 1), ("b", 2), ("c", 7)]
    found = agreement(
        (*(Divergence("?", "x", text, n) for text, n in replies), Divergence("?", "x", "x", 9))
    )
    assert (found.share_equal, found.first_difference) == (0.25, 2.0)
    assert (found.low, found.high) == pytest.approx((0.0456, 0.6994), abs=1e-4)  # Wilson's
    assert agreement((Divergence("?", "x", "x", 9),)).first_difference is None


def test_replies_are_those_of_the_template(source: Path, tmp_path: Path) -> None:
    """The same weights give the same texts; results can be read, and are not measured again."""
    file = tmp_path / "chats.jsonl"
    file.write_text(f"{chat_line('hello')}\n{chat_line('a cat')}\n", "utf-8")
    options: dict[str, Any] = {**OFF, "chats": file, "results": tmp_path / "r.json"}
    result = compare(source, ["F32", source, "Q4_0"], **options, keep=tmp_path)
    assert Comparison.load(tmp_path / "r.json") == result
    assert result["F32"].chats is None
    same, other = result["tiny"].chats, result["Q4_0"].chats
    assert same is not None
    assert other is not None
    assert same.share_equal == 1.0
    assert [each.prompt for each in same.replies] == ["hello", "a cat"]
    assert other.share_equal < 1.0
    assert result.settings["command"].endswith("--chats chats.jsonl --n-threads 1")
    steps: list[str] = []
    compare(
        source, ["F32", source, "Q4_0"], **options, keep=tmp_path, resume=True,
        progress=lambda _done, _all, what: steps.append(what),
    )  # fmt: skip
    assert not [each for each in steps if each.startswith("chats by")]
    file.write_text(chat_line("hello"), "utf-8")
    with pytest.raises(CompareError, match="made with a different chats_sha256"):
        compare(source, ["F32"], **options, resume=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (chat_line("x", role="tool"), r"chat 1 of chats\.jsonl cannot be a prompt: .*no tools"),
        (chat_line("the " * 500), rf"chat 1 .* is too long: with {N_NEW} new tokens"),
    ],
)
def test_a_chat_that_is_no_prompt(line: str, message: str, source: Path, tmp_path: Path) -> None:
    """It is said before a level is made."""
    (tmp_path / "chats.jsonl").write_text(line, "utf-8")
    steps: list[str] = []
    with pytest.raises(CompareError, match=message):
        compare(
            source, ["Q8_0"], **OFF, chats=tmp_path / "chats.jsonl",
            progress=lambda _done, _all, what: steps.append(what),
        )  # fmt: skip
    assert steps == []


def test_chats_without_a_level_to_compare(source: Path) -> None:
    """It is said, as a table without rows would not be seen."""
    found = compare(source, [source], **OFF, chats="auto")
    assert found.notes == ("chats were not asked: there is no level beside tiny",)


def test_a_model_without_a_template(tiny_bpe_path: Path) -> None:
    with pytest.raises(
        CompareError, match=r"chat 1 of auto cannot be a prompt: .* no chat template"
    ):
        compare(tiny_bpe_path, ["Q8_0"], **OFF, chats="auto")
