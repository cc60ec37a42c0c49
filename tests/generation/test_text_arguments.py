"""The lists of arguments for texts: each makes the same object, and differs where it must."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

import pytest

from localgen import LocalModel
from localgen.generation import text_arguments as module
from localgen.generation.text_arguments import TextArguments

SHARED = {
    "generation_config": None, "logits_processor": None, "stopping_criteria": None,
    "split_special_tokens": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "methods", "more"),
    [
        (module.text_arguments, ["complete"], {"cancel": None, "progress": False}),
        (module.iter_arguments, ["complete_iter"], {"cancel": None}),
        (module.stream_arguments, ["stream"], {"cancel": None}),
        (module.async_arguments, ["acomplete", "astream_rows"], {}),
        (module.async_stream_arguments, ["astream"], {}),
    ],
)
def test_each_method_has_the_arguments_that_it_reads(
    arguments: Callable[..., Any], methods: list[str], more: dict[str, object]
) -> None:
    prompts, *options, overrides = inspect.signature(arguments).parameters.values()
    assert {each.name: each.default for each in options} == {**SHARED, **more}
    assert overrides.kind is inspect.Parameter.VAR_KEYWORD
    for name in methods:
        found = inspect.signature(getattr(LocalModel, name)).parameters
        assert [*found] == ["self", prompts.name, *SHARED, *more, "overrides"]


def test_what_is_given_is_kept() -> None:
    cancel = threading.Event()
    given = module.stream_arguments("a", cancel=cancel, split_special_tokens=True, top_k=3)
    assert given == TextArguments(
        prompts="a",
        generation_config=None,
        logits_processor=None,
        stopping_criteria=None,
        split_special_tokens=True,
        overrides={"top_k": 3},
        cancel=cancel,
    )
    assert module.text_arguments("a", top_k=3, progress=True).progress


def test_the_number_of_continuations_is_an_override() -> None:
    """``complete()`` of one text has a list of its own for type checkers alone."""
    given = module.branching_arguments("a", num_return_sequences=2, top_k=3)
    assert given == module.text_arguments("a", num_return_sequences=2, top_k=3)
