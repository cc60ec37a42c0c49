"""The options of compare(): one list for the function and the command, checked before any file."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from localgen.cli.compare import MeasuringOptions
from localgen.compare import compare
from localgen.compare.options import USUAL_LEVELS, CompareOptions


def test_the_function_takes_the_options() -> None:
    arguments = inspect.signature(compare).parameters
    assert [*arguments] == [*inspect.signature(CompareOptions).parameters]
    assert arguments["kv_types"].default == ("f16",)
    assert arguments["levels"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert arguments["n_rounds"].kind is inspect.Parameter.KEYWORD_ONLY


def test_the_command_has_a_flag_for_each_but_the_model_and_the_progress() -> None:
    flags = {flag.name: flag.default for flag in MeasuringOptions.flags()}
    assert inspect.signature(compare).parameters.keys() - flags == {"source", "progress"}
    assert CompareOptions("m", **MeasuringOptions(**flags).given()) == CompareOptions(
        "m", USUAL_LEVELS
    )


def test_with_a_reference_pack_the_model_is_the_level() -> None:
    assert CompareOptions("m.gguf", reference_pack="r.pack").levels == ("m.gguf",)
    flags = {flag.name: flag.default for flag in MeasuringOptions.flags()}
    assert "levels" not in MeasuringOptions(**{**flags, "reference_pack": "r.pack"}).given()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kv_types": "f16"}, TypeError, "kv_types must be a list, got 'f16'"),
        ({"kv_types": []}, ValueError, "kv_types is empty: name at least one"),
        ({"devices": ["cpu", "cpu"]}, ValueError, "devices has cpu twice"),
        ({"depths": [4, 4]}, ValueError, "depths has 4 twice"),
        ({"depths": [0]}, ValueError, "each of depths must be at least 1"),
        ({"depths": [4], "speed": False}, ValueError, "depths needs speed=True"),
        ({"energy": True, "speed": False}, ValueError, "energy=True needs speed=True"),
        ({"energy": 1}, ValueError, "energy must be True or False"),
        ({"text": Path("t.txt")}, TypeError, "text must be a text"),
        ({"keep": 3}, TypeError, "keep must be a path"),
        ({"progress": 3}, TypeError, "progress must be a function"),
        ({"reference_pack": "r", "quality": False}, ValueError, "reference_pack needs quality"),
        ({"reference_pack": "r", "save_reference_pack": "s"}, ValueError, "exclude each other"),
        ({"reference_pack": "r", "tasks": ["demo"]}, ValueError, "cannot be used with tasks"),
        ({"reference_pack": "r", "chats": "auto"}, ValueError, "cannot be used with chats"),
        ({"resume": True}, ValueError, "resume=True needs results=, the file of the results"),
    ],
)
def test_options_that_cannot_be_used(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        CompareOptions("no-model", ["Q4_0"], **options)
