"""Numbers with limits have some digits at most; multiples that cannot be counted are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localgen.constraints.compiler import Compiler
from localgen.constraints.numbers import multiples_overflow
from tests.constraints.vocabularies import allows, byte_compiler

COMPILER: Compiler = byte_compiler()


@pytest.mark.parametrize(
    ("schema", "allowed", "refused"),
    [
        ({"type": "integer"}, ["0", "-7", "9" * 18], ["9" * 19, "-" + "9" * 19, "1e3", "1.0"]),
        ({"type": ["integer", "null"], "minimum": 3}, ["3", "null"], ["2", "9" * 19]),
        ({"type": "integer", "exclusiveMaximum": 3}, ["2", "-5"], ["3", "-" + "9" * 19]),
        ({"type": "number"}, ["6.02e23", "0." + 30 * "3"], ["1.", ".5"]),
        ({"type": "number", "minimum": 0}, ["0.3333333333", "12"], ["0." + 11 * "3", "1e3"]),
        ({"type": "number", "minimum": 0, "multipleOf": 0.5}, ["1.5", "2"], ["1.25", "-1"]),
        ({"type": "integer", "format": "int32"}, [str(2**31 - 1)], [str(2**31)]),
        ({"type": "integer", "format": "int32", "minimum": 5}, ["5"], ["4"]),
        ({"type": "integer", "enum": [2**53]}, [str(2**53)], ["1"]),
        ({"type": "string"}, ['"' + 30 * "9" + '"'], ["9"]),
    ],
)
def test_digits_are_bounded_where_no_exponent_is_lost(
    schema: Any, allowed: list[str], refused: list[str]
) -> None:
    constraint = COMPILER("json_schema", schema)
    assert [text for text in allowed if not allows(constraint, text)] == []
    assert [text for text in refused if allows(constraint, text)] == []


@pytest.mark.parametrize(
    "value", [0, -7, 2**53, -(2**53), 0.1, -0.25, 1e-22, 1e15, 1.5, 123456.789012345, True]
)
def test_a_number_that_llguidance_reads_exactly_is_written_as_it_is(value: float) -> None:
    forced = COMPILER("json_schema", {"const": value}).matcher().forced_tokens()
    assert json.loads(bytes(forced)) == value


@pytest.mark.parametrize(
    "value", [2**53 + 1, -(2**63), 10**30, 1e300, 5e-324, 123456789.12345679, 0.1 + 0.2]
)
def test_a_number_that_it_would_read_as_another_is_refused(value: float) -> None:
    """It wrote 9007199254740992 for the first of them; the second one ended the process."""
    for schema in ({"const": {"a": [value]}}, {"enum": [0, value]}):
        with pytest.raises(ValueError, match="cannot be enforced; use a number within"):
            COMPILER("json_schema", schema)
    with pytest.raises(ValueError, match=r"\$\.maximum .* cannot be enforced"):
        COMPILER("json_schema", {"maximum": value})


def test_common_multiples_are_counted_in_32_bits() -> None:
    """llguidance takes 65,536 * 65,537 for 65,536, and would let 65,536 through."""
    assert multiples_overflow([2**16, 2**16 + 1])
    assert multiples_overflow([2**16, 0.25, 7.0])
    assert not multiples_overflow([2**12, 2**12, 0.25, 3.0])
    assert not multiples_overflow([])
    both: list[dict[str, Any]] = [
        {"type": "integer", "multipleOf": 2**16},
        {"multipleOf": 2**16 + 1},
    ]
    with pytest.raises(ValueError, match=r"\$ combines a multipleOf with others"):
        COMPILER("json_schema", {"allOf": both})
    with pytest.raises(ValueError, match=r"combines a multipleOf"):
        COMPILER("json_schema", {**both[0], "$ref": "#/$defs/a", "$defs": {"a": both[1]}})
    assert allows(COMPILER("json_schema", {"anyOf": both}), str(2**16))
