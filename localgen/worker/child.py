"""The worker: loads a model, and runs the calls that its program sends.

It ends when its program does, whose end of the pipe is closed then.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
import warnings
from contextvars import ContextVar
from typing import Any, NoReturn

from localgen._version import __version__
from localgen.errors import BackendError
from localgen.worker.events import Facts, VocabFacts
from localgen.worker.pickled_errors import pickled_error
from localgen.worker.wire import Message, Receiver, Sender

_SECONDS_BETWEEN_LOOKS = 2.0
_PR_SET_PDEATHSIG = 1
_call_number: ContextVar[int | None] = ContextVar("call_number", default=None)


class _Sender(Sender):
    """Ends the process where nobody reads any more."""

    def send(self, message: Message) -> None:
        try:
            super().send(message)
        except (OSError, ValueError):
            os._exit(0)


def main() -> NoReturn:
    """Serve one program until it hangs up."""
    _be_killed_with_program()
    receiver, sender = _take_pipes()
    faulthandler.enable(all_threads=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program
    _send_warnings(sender)
    threading.Thread(target=_end_with, args=(os.getppid(), sender), daemon=True).start()
    _refuse_other_version(sender)
    first = receiver.receive()
    if first is not None:
        _, path, options, uses_profile, wants_progress, log_level = first
        _send_log(sender, log_level)
        model = _loaded(sender, path, options, uses_profile, wants_progress)
        if model is not None:
            # Imported late: the program's side of this package needs none of it.
            from localgen.worker.runner import CallRunner  # noqa: PLC0415

            runner = CallRunner(model, sender, _call_number)
            sender.send(("ready", _facts(model)))
            runner.serve(receiver)
    # Nothing of Python or C may hold it up; what is in the pipe stays readable.
    os._exit(0)


def _refuse_other_version(sender: Sender) -> None:
    """End if the program is of another version, whose messages may differ."""
    (wanted,) = sys.argv[1:]
    if wanted != __version__:
        error = BackendError(
            f"localgen has changed on disk from version {wanted} to {__version__} since this "
            f"program started: restart the program"
        )
        sender.send(("failed", pickled_error(error)))
        os._exit(0)


def _take_pipes() -> tuple[Receiver, Sender]:
    """Return the pipes that the process was started with as stdin and stdout.

    What other code reads from stdin is empty, and what it prints goes to stderr.
    """
    given, taken = os.dup(0), os.dup(1)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    _keep_from_forks(given, taken)
    return Receiver(open(given, "rb")), _Sender(open(taken, "wb", buffering=0))


def _keep_from_forks(*pipes: int) -> None:
    """Let no process that a caller's function forks hold the pipes: the program would take this one
    for alive after its end."""

    def let_go() -> None:
        nothing = os.open(os.devnull, os.O_RDWR)
        for each in pipes:
            os.dup2(nothing, each, inheritable=False)
        os.close(nothing)

    if sys.platform != "win32":
        os.register_at_fork(after_in_child=let_go)


def _be_killed_with_program() -> None:
    """Let Linux kill this process when the program ends, whatever this one does then: a caller's
    function may hold Python's lock for ever."""
    if sys.platform == "linux":
        # That of the thread that started this process is meant, which ends after this process.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _end_with(parent: int, sender: Sender) -> None:
    """Say that this process runs, and end when the program has: a process that it has forked may
    keep the pipe open."""
    while os.getppid() == parent:
        sender.send(("running",))
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(0)


def _loaded(sender: Sender, path: Any, options: Any, uses_profile: Any, wants_progress: Any) -> Any:
    """Return the model; None if it cannot be loaded, which the program is told."""
    from localgen.model import LocalModel  # noqa: PLC0415  # a circle otherwise

    progress = None
    if wants_progress:
        progress = lambda fraction: sender.send(("progress", fraction))  # noqa: E731
    try:
        return LocalModel.from_pretrained(
            path, progress=progress, use_profile=uses_profile, **options
        )
    except BaseException as error:
        sender.send(("failed", pickled_error(error)))
        return None


def _facts(model: Any) -> Facts:
    vocab = model.tokenizer._vocab
    names = VocabFacts.__slots__
    facts = {name: getattr(vocab, name) for name in names if name != "chat_templates"}
    return Facts(
        config=model.config,
        sampling_defaults=model.sampling_defaults,
        weights=tuple(model.parameters()),
        vocab=VocabFacts(**facts, chat_templates=dict(vocab.chat_templates)),
    )


# --- warnings and logging ---


def _send_warnings(sender: Sender) -> None:
    """Let warnings come in the program, whose filters decide about them."""
    warnings.resetwarnings()
    warnings.simplefilter("always")

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        with contextlib.suppress(Exception):
            sender.send(("warning", _call_number.get(), str(message), category))

    warnings.showwarning = show


def _send_log(sender: Sender, level: Any) -> None:
    class Forward(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            sender.send(("log", record.name, record.levelno, record.getMessage()))

    own = logging.getLogger("localgen")
    own.setLevel(level)
    own.addHandler(Forward())
    own.propagate = False
    if sys.stderr is not None:
        logging.basicConfig(level=logging.WARNING)  # of functions that callers send
