"""What is said when a worker has ended: in the log, and to those whose calls it computed."""

from __future__ import annotations

from collections.abc import Sequence

from localgen._util.format import counted
from localgen.errors import WorkerCrashedError
from localgen.worker.calls import RemoteCall
from localgen.worker.process import WorkerEnd

_MOST_LABELS = 100


def crash_report(
    model: str, how: str, ended: Sequence[RemoteCall], held: Sequence[RemoteCall]
) -> str:
    """Return the line for the log. ended: calls that end with an error; held: those that run
    again."""
    return (
        f"the worker process of {model} {how}: {_told(ended, 'call')} with an error, "
        f"{_told(held)} to run again; the model is loaded again"
    )


def crash_error(what: str, end: WorkerEnd) -> WorkerCrashedError:
    """Return the error of a call that the worker computed when it ended."""
    return WorkerCrashedError(
        f"{what}. The model is loaded again by itself: run the call again. `output` of this error "
        f"has what the process printed.",
        signal=end.signal,
        exit_code=end.exit_code,
        output=end.output,
    )


def refusal_error(n_ends: int) -> WorkerCrashedError:
    """Return the error of a call that is not computed again."""
    return WorkerCrashedError(
        f"this call is refused: the worker process has ended {n_ends} times while it computed it. "
        f"Change the prompt or the options, or load the model without isolated=True to find the "
        f"cause.",
        is_refused=True,
    )


def _told(calls: Sequence[RemoteCall], thing: str = "") -> str:
    """Return how many calls there are, and the labels of those that have one."""
    number = counted(len(calls), thing) if thing else str(len(calls))
    labels = list(dict.fromkeys(each.label for each in calls if each.label is not None))
    more = ", …" if len(labels) > _MOST_LABELS else ""
    return f"{number} ({', '.join(labels[:_MOST_LABELS])}{more})" if labels else number
