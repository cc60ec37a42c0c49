"""The options of imatrix(): one list for the function and the command, checked before any file."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from localgen.cli.imatrix import ComputingOptions
from localgen.config import ModelConfig
from localgen.quantization.imatrix import imatrix
from localgen.quantization.imatrix_options import ImatrixOptions


def test_the_function_takes_the_options() -> None:
    arguments = inspect.signature(imatrix).parameters
    assert [*arguments] == [*inspect.signature(ImatrixOptions).parameters]
    assert arguments["texts"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert arguments["output"].kind is inspect.Parameter.KEYWORD_ONLY
    assert arguments["output"].default is inspect.Parameter.empty


def test_the_command_has_a_flag_for_each_but_files_and_the_progress() -> None:
    flags = {flag.name: flag.default for flag in ComputingOptions.flags()}
    of_files = {"source", "texts", "output"}
    assert inspect.signature(imatrix).parameters.keys() - flags == {*of_files, "progress"}
    typed = ComputingOptions(**flags).given()
    options = ImatrixOptions("m", output="a.gguf")
    assert ImatrixOptions("m", output="a.gguf", **typed) == options


def test_the_model_is_loaded_with_the_options_for_loading() -> None:
    options = ImatrixOptions(
        "m", output="a.gguf", n_ctx=64, device="cpu", n_threads=3, check_memory=False
    )
    assert options.loading(32) == ModelConfig(
        n_ctx=64, n_batch=32, max_sequences=1, device="cpu", n_threads=3, check_memory=False
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_ctx": 15}, ValueError, "n_ctx must be between 16 and"),
        ({"n_chunks": 0}, ValueError, "n_chunks must be at least 1"),
        ({"resume": 1}, ValueError, "resume must be True or False"),
        ({"output": 3}, TypeError, "output must be a path"),
        ({"n_threads": 0}, ValueError, "n_threads .*; leave it out to use every CPU"),
        ({"device": "tpu"}, ValueError, "device must be"),
        ({"progress": 3}, TypeError, "progress must be a function"),
    ],
)
def test_options_that_cannot_be_used(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ImatrixOptions("no-model", **{"output": "a.gguf", **options})
