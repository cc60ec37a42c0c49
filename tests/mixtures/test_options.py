"""The arguments of quantize(): one list for the function, its types and the command."""

from __future__ import annotations

import inspect
import typing
from typing import Any

import pytest

from localgen import quantize
from localgen.cli.quantize import WritingOptions
from localgen.mixtures.options import QuantizeArguments
from localgen.quantization.options import QuantizeOptions


def test_the_function_takes_the_arguments() -> None:
    own = inspect.signature(quantize).parameters
    assert [*own] == [*inspect.signature(QuantizeArguments).parameters]
    assert [*own][:2] == ["source", "levels"]
    assert own["output"].default == "."


def test_type_checkers_know_every_argument() -> None:
    """They need overloads, since the result depends on ``levels``; these list the names again."""
    get_overloads = getattr(typing, "get_overloads", None)
    if get_overloads is None:
        pytest.skip("typing.get_overloads is of Python 3.11")
    overloads = get_overloads(quantize)
    named = {name for each in overloads for name in inspect.signature(each).parameters}
    assert named == {*inspect.signature(quantize).parameters}


def test_the_command_has_a_flag_for_each_but_the_model_and_the_progress() -> None:
    flags = {flag.name: flag.default for flag in WritingOptions.flags()}
    assert inspect.signature(quantize).parameters.keys() - flags == {"source", "progress"}
    made = QuantizeArguments("m", **WritingOptions(**{**flags, "levels": ["Q4_0"]}).given())
    assert made == QuantizeArguments("m", ["Q4_0"])


def test_tensor_types_are_typed_as_pairs() -> None:
    typed = {"tensor_types": ["ffn_down=Q6_K", "a=b=Q8_0"]}
    assert WritingOptions(**typed).given() == {"tensor_types": {"ffn_down": "Q6_K", "a=b": "Q8_0"}}
    with pytest.raises(ValueError, match="--tensor-type names the pattern 'x' twice"):
        WritingOptions(tensor_types=["x=Q6_K", "x=Q8_0"]).given()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_threads": 0}, ValueError, "n_threads must be between 1 and 512"),
        ({"pure": "yes"}, ValueError, "pure must be True or False"),
        ({"output": 3}, TypeError, "output must be a path"),
        ({"output_tensor_type": 3}, TypeError, "output_tensor_type must be a text"),
    ],
)
def test_options_of_every_file(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        QuantizeOptions(**options)
