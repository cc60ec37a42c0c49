"""Ray's exceptions become errors of localgen, without a cluster."""

from __future__ import annotations

from typing import Any

import pytest

ray: Any = pytest.importorskip("ray", reason="needs the extra localgen[ray]")

from ray import exceptions  # noqa: E402
from ray.data.exceptions import SystemException  # noqa: E402

from localgen.errors import JobError, RayJobError, RepeatedIdError  # noqa: E402
from localgen.jobs.ray.errors import as_own, own_errors  # noqa: E402


def of_task(cause: Exception) -> Exception:
    """What ``ray.get()`` raises for an exception of a task."""
    error = exceptions.RayTaskError(
        "read", f"ray::read()\n{type(cause).__name__}: {cause}", cause, "p", 1, "127.0.0.1"
    )
    found: Exception = error.as_instanceof_cause()
    return found


def from_(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


ALL_OF_RAY = [
    each
    for each in vars(exceptions).values()
    if isinstance(each, type) and issubclass(each, exceptions.RayError)
]


@pytest.mark.parametrize("kind", ALL_OF_RAY, ids=lambda kind: str(kind.__name__))
def test_each_exception_of_ray_is_a_typed_error_with_advice(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "__str__", lambda _: "something broke")  # it needs its fields
    error = kind.__new__(kind)
    found = as_own(error)
    assert type(found) is RayJobError
    assert ". " in str(found)
    assert "\n" not in str(found)


@pytest.mark.parametrize("wrap", [
    of_task,
    lambda error: from_(exceptions.UserCodeException("UDF failed"), error),
    lambda error: from_(of_task(from_(ValueError("x"), error)), SystemException()),
])  # fmt: skip
def test_an_error_of_localgen_inside_of_rays_is_raised_itself(wrap: Any) -> None:
    own = RepeatedIdError("in.jsonl", "a", (1, 2))
    assert as_own(wrap(own)) is own


def test_a_traceback_of_ray_is_not_in_the_message() -> None:
    found = as_own(of_task(KeyError("x")))
    assert type(found) is RayJobError
    assert "KeyError: 'x'" in str(found)
    assert "ray::" not in str(found)


def test_memory_disk_and_time_are_named_with_what_helps() -> None:
    full = as_own(exceptions.OutOfMemoryError("Task was killed.\nMemory on the node: 99 %"))
    assert "ran out of memory: Task was killed. Use fewer actors" in str(full)
    late = as_own(from_(exceptions.GetTimeoutError("Timed out."), SystemException()))
    assert "did not start in time" in str(late)


def test_other_exceptions_stay_as_they_are() -> None:
    for error in (KeyError("x"), OSError(28, "No space"), JobError("x")):
        with pytest.raises(type(error)) as found, own_errors():
            raise error
        assert found.value is error
