"""Ray's exceptions as localgen's errors: what happened, and what to do."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from localgen.errors import LocalgenError, RayJobError

_logger = logging.getLogger(__name__)

NO_CLIENT = (
    "a job cannot run through Ray Client (ray://), with which Ray Data does not work. Run it on a "
    "node of the cluster, and join the Ray there with --ray auto or ray.init()."
)
_AGAIN = "What is done is kept; run the same command again to resume."
# Names of Ray's exceptions → what happened, and what to do. Names, since versions differ.
_KNOWN = {
    "OutOfMemoryError": (
        "Ray ended a process because its node ran out of memory",
        f"Use fewer actors on a node, a smaller n_ctx or max_sequences. {_AGAIN}",
    ),
    "ObjectStoreFullError": (
        "Ray's object store is full",
        f"Start Ray with a larger --object-store-memory. {_AGAIN}",
    ),
    "OutOfDiskError": (
        "the disk of a node is full, where Ray keeps its files",
        f"Free some of it, or start Ray with another --temp-dir. {_AGAIN}",
    ),
    "GetTimeoutError": (
        "the actors did not start in time",
        "Other jobs may hold the CPUs and the memory of the cluster (`ray status` shows it): wait "
        "for them, or use fewer actors.",
    ),
    "ActorUnschedulableError": (
        "no node of the cluster can hold an actor",
        "Use a smaller actor_cpus or n_ctx, or add nodes.",
    ),
    "TaskUnschedulableError": (
        "no node of the cluster can run a task of the job",
        "Leave a CPU to the reading of the input, or add nodes.",
    ),
    "AuthenticationError": (
        "the cluster asks for a token that this process lacks or that is wrong",
        "Set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the token of the cluster.",
    ),
    "RuntimeEnvSetupError": (
        "Ray cannot set up the environment of a process",
        "Leave out RAY_RUNTIME_ENV_HOOK and the runtime_env of the job, or correct them.",
    ),
    "ActorDiedError": ("an actor ended and cannot be started again", _AGAIN),
    "NodeDiedError": ("a node of the cluster died", _AGAIN),
    "WorkerCrashedError": ("a process of Ray ended while it read the input", _AGAIN),
    "LocalRayletDiedError": ("Ray's process on this node died", f"Start Ray again. {_AGAIN}"),
}


@contextmanager
def own_errors() -> Iterator[None]:
    """Raise what Ray raises in the block as RayJobError, and errors of localgen as they are."""
    try:
        yield
    except Exception as error:
        found = as_own(error)
        if found is error:
            raise
        _logger.debug("an exception of Ray", exc_info=error)
        raise found from error


def as_own(error: Exception) -> Exception:
    """Return localgen's error for an exception that Ray raised, or one of localgen inside it."""
    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, LocalgenError) and not _is_of_ray(each):
            return each
    for each in chain:
        if (known := _KNOWN.get(type(each).__name__)) and _is_of_ray(each):
            what, advice = known
            return RayJobError(f"{what}: {_summary(each)}. {advice}")
    if any(map(_is_of_ray, chain)):
        return RayJobError(f"Ray cannot go on: {_summary(error)}. {_AGAIN}")
    return error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what caused it, also in another process, each once."""
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        each = left.pop(0)
        if isinstance(each, BaseException) and id(each) not in seen:
            seen.add(id(each))
            yield each
            left += [getattr(each, "cause", None), each.__cause__, each.__context__]


def _is_of_ray(error: BaseException) -> bool:
    return any(each.__module__.split(".")[0] == "ray" for each in type(error).__mro__)


def _summary(error: BaseException) -> str:
    """Return what an exception says, without the traceback that Ray adds: its last line then."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    has_traceback = any("ray::" in line or line.startswith("Traceback") for line in lines)
    return lines[-1 if has_traceback else 0].rstrip(".:")
