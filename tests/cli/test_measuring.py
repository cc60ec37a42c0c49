"""The end of ``bench`` and ``tune``: what is printed, also after Ctrl-C."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from localgen.benchmark.measuring import Spread
from localgen.cli.measuring import print_measured, spread_text
from localgen.errors import GenerationInterrupted


@dataclasses.dataclass
class Result:
    name: str

    def to_json(self) -> str:
        return f'{{"name": "{self.name}"}}'


def show(result: Result) -> None:
    print(f"name {result.name}")


@pytest.mark.parametrize(("as_json", "text"), [(True, '{"name": "all"}\n'), (False, "name all\n")])
def test_the_result_is_printed_and_returned(capsys: Any, as_json: bool, text: str) -> None:
    assert print_measured("x", lambda progress: Result("all"), show, as_json=as_json).name == "all"
    assert capsys.readouterr().out == text


def test_ctrl_c_prints_what_was_measured(capsys: Any) -> None:
    def measure(progress: object) -> Result:
        error = GenerationInterrupted("interrupted")
        error.partial = Result("half")
        raise error

    with pytest.raises(KeyboardInterrupt):
        print_measured("x", measure, show, as_json=False)
    assert capsys.readouterr().out == "name half\n"


def test_a_spread_that_looks_alike_is_one_number() -> None:
    assert spread_text(Spread(1.04, 1.0, 1.1), "{:.1f}".format, " ms") == "1.0 ms (1.0-1.1)"
    assert spread_text(Spread(1.01, 1.0, 1.02), "{:.1f}".format, " ms") == "1.0 ms"
    assert spread_text(None, "{:.1f}".format) == ""
