"""The errors that localgen defines.

    LocalgenError
    ├── ModelFileError            the model file cannot be used
    │   ├── ModelNotFoundError    there is no such file or name
    │   ├── DownloadError         it is on the Hub, and cannot be downloaded
    │   └── InvalidGGUFError      it is not a GGUF file, or llama.cpp refuses it
    ├── ContextFullError          the prompt does not fit the context
    ├── DecodeError               a forward pass failed, or gave logits that are not numbers
    │   └── ConstraintError       a constraint is too complex to follow
    ├── BackendError              this build, machine or process cannot do what was asked
    │   ├── NotEnoughMemoryError  a model does not fit the available memory
    │   ├── KvBudgetError         a sequence is too long for the KV budget
    │   └── WorkerCrashedError    the process of an isolated model ended during the call
    ├── TemplateError             there is no chat template, or it fails on these messages
    ├── CompareError              levels cannot be compared, or none recommended
    ├── QuantizeError             a quantized file or importance matrix cannot be made
    ├── EvaluateError             a task of lm-evaluation-harness cannot be run
    ├── ServeError                the server cannot start
    ├── StateError                a session cannot be saved, or its file not used here
    ├── JobError                  the job cannot be resumed from this output file
    │   ├── ActorsDoNotFitError   the nodes of a cluster have no room for the actors of a job
    │   ├── RayJobError           Ray cannot be joined, or it or a node cannot run the job
    │   └── RepeatedIdError       two rows of the input have the same id
    └── ClosedError               the model was closed

    GenerationInterrupted         a KeyboardInterrupt that carries what was already generated

Bad arguments are a plain ``ValueError`` or ``TypeError``, as everywhere in Python.
"""

from __future__ import annotations

from typing import Any

CLOSED = "the model is closed; load it again with LocalModel.from_pretrained"


class LocalgenError(Exception):
    """Base class of every error that localgen defines.

    ``partial`` holds what a failed call had produced: a list of ``Completion`` from the text API,
    a ``GenerateOutput`` from ``generate()``, or None if nothing had started.
    """

    partial: Any = None


class ModelFileError(LocalgenError):
    """The model file cannot be used."""


class ModelNotFoundError(ModelFileError):
    """There is no file at that path, and no model of that name."""


class DownloadError(ModelFileError):
    """A file on the Hub cannot be downloaded: no network, not authorised, disk full, or corrupt."""


class InvalidGGUFError(ModelFileError):
    """The file is not a GGUF file, is damaged, or llama.cpp refuses it."""


class ContextFullError(LocalgenError):
    """A text does not fit the context, or leaves no room for a single new token.

    ``n_prompt`` and ``n_ctx`` are token counts. what: the kind of prompt.
    """

    def __init__(self, n_prompt: int, n_ctx: int, what: str = "prompt") -> None:
        self.n_prompt = n_prompt
        self.n_ctx = n_ctx
        self._what = what
        super().__init__(
            f"the {what} has {n_prompt} tokens and n_ctx is {n_ctx}: prompt and new tokens "
            f"together must fit; shorten the prompt, or load the model with a larger n_ctx"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.n_prompt, self.n_ctx, self._what), self.__dict__


class DecodeError(LocalgenError):
    """A forward pass failed, or its logits were not finite."""


class ConstraintError(DecodeError):
    """A constraint is too complex to follow: use a simpler one."""


class BackendError(LocalgenError):
    """This build of llama.cpp, this machine or this process cannot do what was asked."""


class NotEnoughMemoryError(BackendError):
    """A model, with one sequence of ``n_ctx`` tokens, does not fit; nothing was loaded.

    ``needed`` and ``available`` are bytes, of RAM, or if ``is_of_gpu`` of the GPUs together.
    """

    def __init__(
        self, message: str, needed: int, available: int, *, is_of_gpu: bool = False
    ) -> None:
        self.needed = needed
        self.available = available
        self.is_of_gpu = is_of_gpu
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.needed, self.available), self.__dict__


class KvBudgetError(BackendError):
    """A sequence could never run: the KV budget has no room for it beside what is pinned."""


class WorkerCrashedError(BackendError):
    """The process of an isolated model ended while it computed this call.

    signal: the name of the signal that ended it, such as "SIGABRT"; None if it exited with
    ``exit_code``. output: the last lines that it wrote to stderr. is_refused: whether the call did
    not run, because the process has ended twice while it computed the same call.
    """

    def __init__(
        self,
        message: str,
        *,
        signal: str | None = None,
        exit_code: int | None = None,
        output: str = "",
        is_refused: bool = False,
    ) -> None:
        self.signal = signal
        self.exit_code = exit_code
        self.output = output
        self.is_refused = is_refused
        super().__init__(message)


class TemplateError(LocalgenError):
    """The model has no chat template, or the template fails on these messages."""


class CompareError(LocalgenError):
    """Levels cannot be compared as asked, a result cannot be read, or no level be recommended."""


class EvaluateError(LocalgenError):
    """Tasks cannot be evaluated, because lm-eval is missing."""


class QuantizeError(LocalgenError):
    """A quantized file cannot be made, because of the source, options, disk or llama.cpp."""


class ServeError(LocalgenError):
    """The server cannot start: a package is missing, or it cannot listen on its port."""


class StateError(LocalgenError):
    """A session cannot be saved, or its file is damaged or belongs to another model or setting."""


class ClosedError(LocalgenError):
    """The model was used after ``close()``."""


class JobError(LocalgenError):
    """A job's output file belongs to another job, is damaged, in use or gone, or takes no more."""


class ActorsDoNotFitError(JobError):
    """The nodes of a cluster have room for ``n_fit`` of the ``n_actors`` actors of a job."""

    def __init__(self, message: str, n_actors: int, n_fit: int) -> None:
        self.n_actors = n_actors
        self.n_fit = n_fit
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.n_actors, self.n_fit), self.__dict__


class RayJobError(JobError):
    """Ray cannot be joined, or Ray or one of its nodes cannot run the job.

    node: the host that cannot, if it is one; ``__cause__`` is then the error there.
    """

    def __init__(self, message: str, node: str | None = None) -> None:
        self.node = node
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.node), self.__dict__


class RepeatedIdError(JobError):
    """Two rows of the input have the same ``id``; ``lines`` are the first two that have it.

    file: the input's, as it was given.
    """

    def __init__(self, file: str, row_id: str | int, lines: tuple[int, int]) -> None:
        self.file = file
        self.id = row_id
        self.lines = lines
        super().__init__(
            f"the id {row_id!r} of line {lines[1]} of {file} is already used by line {lines[0]} (a "
            f"line without an id uses its number). Give each row of a file an id of its own."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.file, self.id, self.lines), self.__dict__


class GenerationInterrupted(KeyboardInterrupt):
    """Ctrl-C during a call: ``partial`` holds what was generated, as in ``LocalgenError``, or for
    ``bench()`` and ``compare()`` what was measured."""

    partial: Any = None
