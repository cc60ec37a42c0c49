"""An actor's error reaches the driver with its type, its node and what to do."""

from __future__ import annotations

import pytest

from localgen.errors import JobError, ModelNotFoundError, NotEnoughMemoryError, RayJobError
from localgen.jobs.ray.failures import FAILURE, check_failure, failed_batch


class Unpicklable(Exception):
    def __reduce__(self) -> str:
        raise TypeError("not this one")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModelNotFoundError("there is no file /x.gguf."), "job: there is no file /x.gguf. What"),
        (NotEnoughMemoryError("it does not fit", 2, 1), "job: it does not fit. What"),
        (OSError(28, "No space left on device", "/out/a"), "/out/a: No space left on device. "),
        (KeyError("x"), "KeyError: 'x'"),
        (Unpicklable("y"), "Unpicklable: y"),
    ],
)
def test_the_error_names_its_node_and_has_its_cause(error: Exception, message: str) -> None:
    with pytest.raises(RayJobError) as found:
        check_failure(failed_batch(error, "host:7:1234"))
    assert found.value.node == "host:7"
    assert str(found.value).startswith("node host:7 cannot run the job: ")
    assert message in str(found.value)
    if not isinstance(error, Unpicklable):
        assert type(found.value.__cause__) is type(error)
    assert isinstance(found.value, JobError)


def test_an_error_is_found_behind_lines_that_ended() -> None:
    failed = failed_batch(KeyError("x"), "host:1")
    batch = {"worker": ["other:2", *failed["worker"]], FAILURE: ["", *failed[FAILURE]]}
    with pytest.raises(RayJobError, match=r"^node host cannot run the job: KeyError"):
        check_failure(batch)


def test_a_batch_of_lines_that_ended_raises_nothing() -> None:
    check_failure({FAILURE: ["", ""], "worker": ["host:1"] * 2})
    check_failure({FAILURE: [], "worker": []})
