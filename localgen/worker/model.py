"""A LocalModel whose weights and C are in another process; see ``docs/isolated.md``."""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar, cast

from localgen._util.wanted import run_in_thread
from localgen.completion import Completion
from localgen.config import GenerationConfig
from localgen.generation.inputs import Prompt
from localgen.generation.request_builder import RequestBuilder
from localgen.generation.resolve import check_cancel
from localgen.generation.results import one_or_all
from localgen.generation.row_stream import RowStream
from localgen.generation.streaming import ChatStream, CompletionStream
from localgen.model import LocalModel
from localgen.text.chat_arguments import as_conversations
from localgen.text.replies.results import ReplyDelta
from localgen.text.tokenizer import Tokenizer
from localgen.worker.backend import RemoteBackend
from localgen.worker.calls import Kind, RemoteCall
from localgen.worker.client import Client
from localgen.worker.methods import as_in, asked, refused, take_chat_arguments
from localgen.worker.options import SentOptions, sent_defaults
from localgen.worker.progress import run_under_bar
from localgen.worker.remote_generate import generate
from localgen.worker.rows import RemoteRows
from localgen.worker.so_far import completions_so_far
from localgen.worker.streams import RemoteStream
from localgen.worker.supervisor import Supervisor

T = TypeVar("T")
_N_THREADS = 32  # they wait for the process most of the time


class IsolatedModel(LocalModel):
    """A ``LocalModel`` in a process of its own, which ``from_pretrained(…, isolated=True)`` loads.

    If the process ends, the calls that it computed raise WorkerCrashedError, and the model is
    loaded again by itself. What is not offered raises TypeError.
    """

    def __init__(self, supervisor: Supervisor, path: Path, facts: Any) -> None:
        """Use ``LocalModel.from_pretrained``."""
        self._client = Client(supervisor)
        self._remote = backend = RemoteBackend(self._client, facts, path)
        self._backend = cast("Any", backend)
        self.tokenizer = Tokenizer(backend.vocab, owner=backend, name_or_path=str(path))
        self.config = facts.config
        # It renders chats and keeps the defaults of calls; the worker builds the calls.
        self._requests = RequestBuilder(
            self.tokenizer, self._backend, self.config, cast("Any", None)
        )

        self._sent: GenerationConfig | None = None
        # Of its own: those of asyncio would all wait, and others for them, while the process starts
        # again.
        self._threads = ThreadPoolExecutor(_N_THREADS, "localgen-isolated")

    def __repr__(self) -> str:
        return f"IsolatedModel({self._remote.path}, n_ctx={self.config.n_ctx})"

    def __enter__(self) -> IsolatedModel:
        return self

    @property
    def worker_pid(self) -> int | None:
        """The id of the process that has the model; None while there is none."""
        return self._client.supervisor.pid

    @property
    def n_restarts(self) -> int:
        """How often the process has been started again."""
        return self._client.supervisor.n_restarts

    def close(self) -> None:
        """End the process; calling it again does nothing.

        Calls that still run in other threads, and all later ones, raise ClosedError. A process that
        does not end within ``WorkerConfig.close_seconds`` is killed.
        """
        self._remote.close()

    # --- questions with one answer ---

    choose = asked(LocalModel.choose, "achoose")
    achoose = asked(LocalModel.achoose)
    classify = asked(LocalModel.classify, "aclassify")
    aclassify = asked(LocalModel.aclassify)
    score = asked(LocalModel.score)
    score_continuations = asked(LocalModel.score_continuations)
    ascore_tokens = asked(LocalModel.ascore_tokens)

    def save_session(self, path: str | os.PathLike[str]) -> int:
        """See ``LocalModel.save_session``; the process writes the file."""
        where = {"path": os.path.abspath(path)}
        n_saved: int = self._client.ask("save_session", where, Kind.ENGINE)
        return n_saved

    def load_session(self, path: str | os.PathLike[str]) -> int:
        """See ``LocalModel.load_session``. A process that is started again does not have it."""
        where = {"path": os.path.abspath(path)}
        n_loaded: int = self._client.ask("load_session", where, Kind.ENGINE)
        return n_loaded

    # --- what is not offered ---

    __call__ = forward = refused("forward()", "logits do not leave the worker process")
    prefill = refused(
        "prefill()",
        "a prefix is pinned in the memory of the worker process, which may be started again "
        "without it, while prompts that begin alike share their KV cache by themselves",
    )

    # --- calls that generate ---

    @as_in(LocalModel.generate)
    def generate(self, *args: Any, **given: Any) -> Any:
        self._send_defaults()
        bound = inspect.signature(LocalModel.generate).bind(self, *args, **given).arguments
        del bound["self"]
        overrides = bound.pop("overrides", {})
        return generate(
            self._client, self.tokenizer, self._requests.defaults.config, bound, overrides
        )

    @as_in(LocalModel.complete)
    def complete(
        self,
        prompts: Any,
        *,
        cancel: threading.Event | None = None,
        progress: bool = False,
        **given: Any,
    ) -> Any:
        options = self._options(given)
        call = self._new_call(prompts, options, cancel=cancel, keeps_updates=progress)
        run = run_under_bar if progress else Client.run
        done = run(self._client, call, completions_so_far)
        return one_or_all(prompts, options.all_finished(done))

    @as_in(LocalModel.complete_iter)
    def complete_iter(
        self, prompts: Any, *, cancel: threading.Event | None = None, **given: Any
    ) -> Iterator[tuple[int, Completion]]:
        options = self._options(given)
        call = self._new_call(prompts, options, cancel=cancel, sends_each=True)
        self._client.begin(call)
        return self._as_they_finish(call, options)

    def _as_they_finish(
        self, call: RemoteCall, options: SentOptions
    ) -> Iterator[tuple[int, Completion]]:
        try:
            with self._client.carrying(call, completions_so_far):
                while not call.over or call.answers:
                    self._client.wait(call, lambda: bool(call.answers))
                    while call.answers:
                        index, completion = call.answers.popleft()
                        yield index, options.finished(index, completion)
                call.result()
        finally:
            self._client.supervisor.abandon_call(call)

    @as_in(LocalModel.stream)
    def stream(
        self, prompt: Prompt, *, cancel: threading.Event | None = None, **given: Any
    ) -> CompletionStream:
        return self._stream(prompt, given, cancel, takes_apart=False)

    def _stream(
        self,
        prompt: Prompt,
        given: Mapping[str, Any],
        cancel: threading.Event | None,
        *,
        takes_apart: bool,
    ) -> RemoteStream:
        options = self._options(given)
        call = self._new_call(
            prompt,
            options,
            cancel=cancel,
            keeps_updates=True,
            is_single=True,
            takes_apart=takes_apart,
        )
        self._client.begin(call)
        return RemoteStream(self._client, call, options, self._remote)

    @as_in(LocalModel.acomplete)
    async def acomplete(self, prompts: Any, **given: Any) -> Any:
        options = self._options(given)
        call = self._new_call(prompts, options)
        done = await self._client.arun(call, completions_so_far)
        return one_or_all(prompts, options.all_finished(done))

    @as_in(LocalModel.astream)
    async def astream(self, prompt: Prompt, **given: Any) -> AsyncGenerator[str, None]:
        async with aclosing(self._deltas(prompt, given, takes_apart=False)) as deltas:
            async for delta in deltas:
                yield delta.text

    async def _deltas(  # type: ignore[override]
        self, prompt: Prompt, given: Mapping[str, Any], *, takes_apart: bool
    ) -> AsyncGenerator[ReplyDelta, None]:
        call = self._new_call(
            prompt,
            self._options(given),
            keeps_updates=True,
            is_single=True,
            takes_apart=takes_apart,
        )
        async with aclosing(self._client.updates(call, completions_so_far)) as updates:
            async for (update,) in updates:
                for delta in update.deltas:
                    yield delta

    @as_in(LocalModel.astream_rows)
    def astream_rows(self, prompts: Any, **given: Any) -> RowStream:
        rows = RemoteRows(self._client, lambda: self._rows_call(prompts, given))
        return RowStream(rows.updates(), rows.completions, rows.is_over)

    def _rows_call(self, prompts: Any, given: Mapping[str, Any]) -> tuple[RemoteCall, SentOptions]:
        options = self._options(given)
        return self._new_call(prompts, options, keeps_updates=True), options

    # --- chats ---

    @as_in(LocalModel.chat_stream)
    def chat_stream(self, messages: Any, **given: Any) -> ChatStream:
        of_prompt, cancel = take_chat_arguments(given), given.pop("cancel", None)
        return self._stream(
            self.chat_prompt(messages, **of_prompt), given, cancel, takes_apart=True
        )

    @as_in(LocalModel.achat)
    async def achat(self, messages: Any, **given: Any) -> Any:
        of_prompt = take_chat_arguments(given)
        chats, several = as_conversations(messages)
        prompts = [await self.achat_prompt(chat, **of_prompt) for chat in chats]
        done = await self.acomplete(prompts, **given)
        return done if several or len(done) > 1 else done[0]

    @as_in(LocalModel.achat_stream)
    async def achat_stream(self, messages: Any, **given: Any) -> AsyncGenerator[ReplyDelta, None]:
        of_prompt = take_chat_arguments(given)
        prompt = await self.achat_prompt(messages, **of_prompt)
        async with aclosing(self._deltas(prompt, given, takes_apart=True)) as deltas:
            async for delta in deltas:
                yield delta

    # --- helpers ---

    async def in_thread(self, function: Callable[..., T], *args: Any, **given: Any) -> T:
        """See ``LocalModel.in_thread``; the threads are the model's own."""
        return await run_in_thread(self._threads, function, *args, **given)

    def _new_call(
        self,
        prompts: Any,
        options: SentOptions,
        *,
        cancel: threading.Event | None = None,
        keeps_updates: bool = False,
        is_single: bool = False,
        takes_apart: bool = True,
        sends_each: bool = False,
    ) -> RemoteCall:
        check_cancel(cancel)
        how = {
            "is_single": is_single,
            "takes_apart": takes_apart,
            "sends_each": sends_each,
            "is_streamed": keeps_updates,
        }
        arguments = {"prompts": prompts, **options.options, **how}
        return self._client.new_call("text", arguments, keeps_updates=keeps_updates, cancel=cancel)

    def _options(self, given: Mapping[str, Any]) -> SentOptions:
        self._send_defaults()
        return SentOptions(given, self._requests.defaults.config)

    def _send_defaults(self) -> None:
        config = self._requests.defaults.config
        if config is not (self._sent or self._requests.own_defaults):
            self._client.supervisor.set_defaults(sent_defaults(config))
            self._sent = config
