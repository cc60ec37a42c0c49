"""What can be sent to the worker, and by what a call is known."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest

from localgen import GenerationConfig
from localgen.worker.arguments import fingerprint, packed
from tests.worker import functions


def test_arguments_come_through() -> None:
    given = {"prompts": ["a", [1, 2]], "logits_processor": functions.fail}
    assert pickle.loads(packed(given)) == given


@pytest.mark.parametrize(
    ("name", "value"),
    [("logits_processor", lambda ids, scores: scores), ("cancel", threading.Event())],
)
def test_an_argument_that_cannot_be_sent_is_named(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{name} cannot be sent .* isolated=True\.$"):
        packed({"prompts": ["a"], name: value})


def test_what_the_main_module_defines_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name means another module in the worker, which fails there or finds something else."""
    monkeypatch.setattr(functions.favour_five, "__module__", "__main__")
    with pytest.raises(TypeError, match=r"favour_five is defined in the program's main module"):
        packed({"logits_processor": functions.favour_five})
    monkeypatch.setattr(functions.AbortAfter, "__module__", "__main__")
    with pytest.raises(TypeError, match="AbortAfter is defined in the program's main module"):
        packed({"stopping_criteria": [functions.AbortAfter(3)]})


def test_a_call_is_known_whatever_its_seed_and_time_limit() -> None:
    first = fingerprint("text", {"prompts": "a", "seed": 1, "max_time": 3.0})
    assert first == fingerprint("text", {"prompts": "a", "seed": 2, "max_time": 2.5})
    assert first != fingerprint("text", {"prompts": "b"})
    assert first != fingerprint("ids", {"prompts": "a"})
    configs = [GenerationConfig(seed=1), GenerationConfig(max_time=9.0)]
    one, other = (fingerprint("text", {"generation_config": each}) for each in configs)
    assert one == other
