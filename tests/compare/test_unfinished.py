"""Results of interrupted comparisons: each has the command that continues it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from localgen.compare import Comparison, save_html
from localgen.compare.collecting import collect
from localgen.compare.machines import merge
from localgen.compare.unfinished import UNFINISHED
from tests.comparisons import comparison

LAPTOP = comparison()
SERVER = comparison(settings={**LAPTOP.settings, "cpu": "Another CPU"})


def _unfinished(result: Comparison, **settings: object) -> Comparison:
    return dataclasses.replace(result, settings={**result.settings, **settings, UNFINISHED: True})


def test_an_unfinished_result_has_the_command_that_continues_it(tmp_path: Path) -> None:
    """Regression: the report of an interrupted comparison looked like that of a whole one."""
    _unfinished(LAPTOP).save(tmp_path / "a.json")
    SERVER.save(tmp_path / "b.json")
    (said,) = collect([tmp_path]).unfinished
    assert said.startswith(f"{tmp_path / 'a.json'} is unfinished")
    assert said.endswith(f": {LAPTOP.settings['command']} --output {tmp_path / 'a.json'} --resume")
    assert "TEXT_FILE" not in said


def test_a_text_of_the_users_is_named(tmp_path: Path) -> None:
    command = "localgen compare m.gguf --text TEXT_FILE"
    _unfinished(LAPTOP, command=command).save(tmp_path / "a.json")
    assert "with your text for TEXT_FILE: " in collect([tmp_path]).unfinished[0]


def test_what_was_merged_is_continued_in_its_own_file(tmp_path: Path) -> None:
    merge([_unfinished(LAPTOP), SERVER]).save(tmp_path / "both.json")
    (said,) = collect([tmp_path]).unfinished
    assert "Continue the results that it was merged from" in said
    assert "--resume" not in said


def test_the_page_names_what_is_unfinished(tmp_path: Path) -> None:
    save_html(merge([LAPTOP, _unfinished(SERVER)]), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "#2, Another CPU, 2 threads: the comparison was interrupted" in page
    assert "#1, A CPU, 2 threads: the comparison was interrupted" not in page
