"""What calls take, return and raise can be pickled and copied."""

from __future__ import annotations

import copy
import dataclasses
import functools
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import localgen
from localgen import ContextFullError, GenerationConfig, LocalModel, ModelConfig
from tests.fakes import fake_model


def _pickled(value: Any, protocol: int) -> Any:
    return pickle.loads(pickle.dumps(value, protocol))


COPIES: dict[str, Callable[[Any], Any]] = {
    **{
        f"protocol {protocol}": functools.partial(_pickled, protocol=protocol)
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    },
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}
ERRORS = [
    each
    for each in (getattr(localgen, name) for name in localgen.__all__)
    if isinstance(each, type) and issubclass(each, BaseException)
]
OTHER_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "ContextFullError": (9, 5),
    "NotEnoughMemoryError": ("it does not fit", 2, 1),
    "ActorsDoNotFitError": ("they do not fit", 4, 2),
    "RepeatedIdError": ("in.jsonl", "a", (1, 3)),
}


@pytest.fixture
def model() -> Iterator[LocalModel]:
    with fake_model() as model:
        yield model


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    elif dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, localgen.BatchEncoding):
        assert_same(list(one.items()), list(other.items()))
    else:
        assert one == other


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("error", ERRORS)
def test_errors(error: type[BaseException], how: str, model: LocalModel) -> None:
    """An error of a worker process arrives with what the call had produced."""
    raised: Any = error(*OTHER_ARGUMENTS.get(error.__name__, ("what happened",)))
    raised.partial = [model.complete("the cat", max_new_tokens=2)]
    raised.__notes__ = ["in shard 3"]
    copied = COPIES[how](raised)
    assert type(copied) is error
    assert str(copied) == str(raised)
    assert vars(copied) == vars(raised)


@pytest.mark.parametrize("how", COPIES)
def test_options_and_results(how: str, model: LocalModel) -> None:
    ids = model.tokenizer(["the cat", "a"], padding=True)
    output = model.generate(
        **ids, max_new_tokens=2, return_dict_in_generate=True, output_scores=True
    )
    (completion,) = model.complete(["the cat"], max_new_tokens=2, logprobs=2, seed=1)
    options = GenerationConfig(
        seed=[1, 2], stop_strings="x", bad_words_ids=[[1]], sequence_bias={(1, 2): 0.5}
    )
    for value in (ids, output, completion, options, ModelConfig(n_ctx=64)):
        assert_same(value, COPIES[how](value))


def test_a_subclass_of_an_error() -> None:
    """Only its own arguments are new."""

    class Mine(ContextFullError):
        pass

    copied = copy.deepcopy(Mine(9, 5))
    assert (type(copied), copied.n_prompt, copied.n_ctx) == (Mine, 9, 5)


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_stream_is_not_copied(make: Callable[[Any], Any]) -> None:
    """Regression: "cannot pickle '_thread.lock' object"."""
    stream = fake_model().stream("ab", max_new_tokens=2)
    with pytest.raises(TypeError, match="a stream cannot be copied or pickled: it is a call"):
        make(stream)
    list(stream)
    assert copy.deepcopy(stream.completion).token_ids == stream.completion.token_ids
