"""Workers that end at any time: every call gets an answer or a typed error, and none is stuck."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil
import pytest

from localgen import (
    BackendError,
    GenerationConfig,
    LocalModel,
    ModelNotFoundError,
    WorkerConfig,
    WorkerCrashedError,
)
from localgen.completion import Completion
from localgen.worker.calls import call_label
from localgen.worker.events import WorkerEvents
from localgen.worker.model import IsolatedModel
from localgen.worker.process import WorkerEnd, WorkerProcess
from tests.children import NO_FORK, ROOT
from tests.worker import functions
from tests.worker.conftest import load_isolated

pytestmark = pytest.mark.slow
GREEDY: dict[str, Any] = {"max_new_tokens": 24, "min_new_tokens": 24, "do_sample": False}
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
SIGNALS = ("SIGKILL", "SIGSEGV", "SIGABRT")
END_SECONDS = 60


async def follow(model: IsolatedModel, text: str, on_step: Any) -> Completion | None:
    """Return a completion, None if the worker ended."""
    rows = model.astream_rows([text], **GREEDY)
    try:
        async with aclosing(rows):
            async for _ in rows:
                on_step()
    except WorkerCrashedError:
        return None
    return rows.completions[0]


@POSIX
@pytest.mark.parametrize("seed", range(3))
def test_every_call_gets_an_answer_or_a_typed_error(
    seed: int, tiny: LocalModel, tiny_bpe_path: Path
) -> None:
    """The worker is killed after random steps, while six clients ask."""
    chance = random.Random(seed)
    texts = [f"the {n} cat {seed}" for n in range(30)]
    wanted = [each.text for each in tiny.complete(texts, **GREEDY)]
    killed = set()
    with load_isolated(tiny_bpe_path, max_sequences=4) as model:

        def on_step() -> None:
            pid = model.worker_pid
            if chance.random() < 0.004 and pid is not None:
                killed.add(pid)
                with contextlib.suppress(ProcessLookupError):  # it ended since it was asked for
                    os.kill(pid, getattr(signal, chance.choice(SIGNALS)))

        async def client(number: int) -> list[Completion | None]:
            return [await follow(model, text, on_step) for text in texts[number::6]]

        async def all_clients() -> list[list[Completion | None]]:
            return await asyncio.gather(*map(client, range(6)))

        for number, found in enumerate(asyncio.run(all_clients())):
            for text, completion in zip(wanted[number::6], found, strict=True):
                assert completion is None or completion.text == text
        assert not model._client.supervisor._calls
        while model.worker_pid in killed:  # after SIGSEGV it writes a traceback first
            pass
        assert asyncio.run(follow(model, "the end", lambda: None)) is not None
        assert not model._client.supervisor._calls


@POSIX
def test_a_process_that_has_ended_has_no_id(
    tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its id may be another process's by the time that somebody sends it a signal."""
    reaped, looked, end = threading.Event(), threading.Event(), WorkerProcess.end

    def late(process: WorkerProcess, seconds: float) -> WorkerEnd:
        found = end(process, seconds)
        reaped.set()
        looked.wait(END_SECONDS)
        return found

    monkeypatch.setattr(WorkerProcess, "end", late)
    with load_isolated(tiny_bpe_path) as model:
        assert model.worker_pid is not None
        os.kill(model.worker_pid, signal.SIGKILL)
        assert reaped.wait(END_SECONDS)
        assert model.worker_pid is None
        looked.set()
        assert model.complete("the", **GREEDY).finish_reason == "length"


@POSIX
def test_waiting_calls_go_on(
    tiny: LocalModel, tiny_bpe_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with load_isolated(tiny_bpe_path, max_sequences=1) as model:
        running = model.stream("first", logits_processor=functions.HangAfter(3), **GREEDY)
        next(running)
        call_label.set("req-second")
        waiting = [model.stream("second", **GREEDY)]
        call_label.set("req-third")
        waiting.append(model.stream("third", **GREEDY))
        call_label.set(None)
        assert model.worker_pid is not None
        os.kill(model.worker_pid, signal.SIGKILL)
        with pytest.raises(WorkerCrashedError):
            list(running)
        for text, stream in zip(("second", "third"), waiting, strict=True):
            assert "".join(stream) == tiny.complete(text, **GREEDY).text
        assert model.n_restarts == 1
    assert (
        f"the worker process of {tiny_bpe_path.name} was killed by SIGKILL: 1 call with an error, "
        f"2 (req-second, req-third) to run again"
    ) in caplog.text


def test_a_call_that_ran_beside_the_cause_is_not_refused_for_it(
    tiny: LocalModel, isolated: IsolatedModel
) -> None:
    """Of the calls of the pass, which one ended the process is not known: both are suspects."""

    async def one(text: str, **more: Any) -> Any:
        try:
            return (await isolated.acomplete(text, **GREEDY, **more)).text
        except WorkerCrashedError as error:
            return error

    async def both() -> list[Any]:
        cause = one("cause", logits_processor=functions.AbortAfter(6))
        return [*await asyncio.gather(cause, one("bystander"))]

    first, second, third = (asyncio.run(both()) for _ in range(3))
    assert [type(each) for each in first] == [WorkerCrashedError, WorkerCrashedError]
    assert isinstance(second[0], WorkerCrashedError)
    assert third[0].is_refused
    wanted = tiny.complete("bystander", **GREEDY).text
    assert second[1] == third[1] == wanted


@POSIX
def test_calls_that_are_alike_count_once_for_an_end(tiny_bpe_path: Path) -> None:
    """Else one end would refuse a question that several clients ask at the same time."""
    with load_isolated(tiny_bpe_path) as model, ThreadPoolExecutor(3) as pool:
        pid, calls = model.worker_pid, model._client.supervisor._calls
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        ask = lambda: model.complete("the", **GREEDY).finish_reason  # noqa: E731
        waiting = [pool.submit(ask) for _ in range(3)]
        while len(calls) < 3:
            pass
        os.kill(pid, signal.SIGKILL)
        assert [each.result(END_SECONDS) for each in waiting] == ["length"] * 3


def test_a_call_that_ends_the_worker_before_it_runs_is_blamed_though_others_run(
    tiny_bpe_path: Path,
) -> None:
    """Else it would end the worker again and again, and only those beside it would get errors."""
    with load_isolated(tiny_bpe_path) as model:
        running = model.stream("beside", logits_processor=functions.HangAfter(3), **GREEDY)
        next(running)
        with pytest.raises(WorkerCrashedError) as error:
            model.complete("cause", logits_processor=functions.AbortWhenSent(), **GREEDY)
        assert error.value.is_refused
        with pytest.raises(WorkerCrashedError):
            list(running)
        assert model.complete("beside", **GREEDY).finish_reason == "length"
        assert model.n_restarts == 2


def test_a_worker_that_cannot_send_a_result_ends(tiny_bpe_path: Path) -> None:
    """Else the call would wait for it forever."""
    with load_isolated(tiny_bpe_path) as model:
        with pytest.raises(WorkerCrashedError, match="can't start new thread"):
            model.complete("the", logits_processor=functions.allow_no_threads, **GREEDY)
        assert model.complete("the", **GREEDY).finish_reason == "length"


def test_a_worker_that_hangs_is_killed(tiny_bpe_path: Path) -> None:
    with load_isolated(tiny_bpe_path, isolated=WorkerConfig(stall_seconds=0.5)) as model:
        with pytest.raises(WorkerCrashedError, match=r"took over 0\.5 seconds") as error:
            model.complete("the", logits_processor=functions.HangAfter(2), **GREEDY)
        assert len(error.value.partial[0].token_ids) == 2
        assert model.complete("the", **GREEDY).finish_reason == "length"


@POSIX
def test_a_stopped_worker_is_killed_though_messages_to_it_wait(tiny_bpe_path: Path) -> None:
    """A full pipe holds up who writes to it, who must not be the one that looks for stalls."""
    with load_isolated(tiny_bpe_path, isolated=WorkerConfig(stall_seconds=1.0)) as model:
        stream = model.stream("the", max_new_tokens=400, min_new_tokens=400)
        next(stream)
        pid = model.worker_pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        model._client.supervisor.set_defaults(GenerationConfig(stop_strings=["x" * 1_000_000]))
        with pytest.raises(WorkerCrashedError, match=r"took over 1 seconds"):
            list(stream)


@POSIX
def test_a_worker_that_is_stopped_before_a_pass_is_killed(tiny_bpe_path: Path) -> None:
    with load_isolated(tiny_bpe_path, isolated=WorkerConfig(stall_seconds=2.0)) as model:
        pid, watch = model.worker_pid, model._client.supervisor._stalls
        assert pid is not None
        assert watch is not None
        os.kill(pid, signal.SIGSTOP)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lambda: model.complete("the", **GREEDY).finish_reason)
            least, watch.silent_seconds = watch.silent_seconds, 0.5
            while model.worker_pid == pid:
                pass
            watch.silent_seconds = least
            assert waiting.result(END_SECONDS) == "length"


@pytest.mark.skipif(not hasattr(os, "fork"), reason=NO_FORK)
def test_a_process_that_a_worker_has_forked_does_not_hide_its_end(tiny_bpe_path: Path) -> None:
    with load_isolated(tiny_bpe_path) as model, ThreadPoolExecutor(1) as pool:
        pid = model.worker_pid
        assert pid is not None
        try:
            forks = functions.ForkThenAbort()
            waiting = pool.submit(lambda: model.complete("the", logits_processor=forks, **GREEDY))
            with pytest.raises(WorkerCrashedError, match="SIGABRT"):
                waiting.result(END_SECONDS)
        finally:
            os.killpg(pid, signal.SIGKILL)
        assert model.complete("the", **GREEDY).finish_reason == "length"


def test_a_dropped_stream_waits_for_no_lock(tiny_bpe_path: Path) -> None:
    """Python may collect it in a thread that holds what the lock's holder waits for."""
    with load_isolated(tiny_bpe_path) as model:
        supervisor = model._client.supervisor
        stream = model.stream("the", max_new_tokens=400, min_new_tokens=400)
        next(stream)
        held, dropped = threading.Event(), threading.Event()

        def hold() -> None:
            with supervisor._lock:
                held.set()
                assert dropped.wait(END_SECONDS)

        holder = threading.Thread(target=hold)
        holder.start()
        assert held.wait(END_SECONDS)
        del stream
        dropped.set()
        holder.join()
        while supervisor._calls:
            pass


@POSIX
def test_a_model_that_cannot_be_loaded_again_fails_its_calls_until_it_can(
    tiny_bpe_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "copy.gguf"
    path.write_bytes(tiny_bpe_path.read_bytes())
    with load_isolated(path, isolated=WorkerConfig(n_load_attempts=2)) as model:
        assert model.worker_pid is not None
        path.unlink()
        os.kill(model.worker_pid, signal.SIGKILL)
        with pytest.raises(ModelNotFoundError):
            model.complete("the", **GREEDY)
        path.write_bytes(tiny_bpe_path.read_bytes())
        assert model.complete("the", **GREEDY).finish_reason == "length"


def test_a_localgen_that_was_updated_meanwhile_is_not_used(
    tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localgen.worker.process.__version__", "0.0.1")
    with pytest.raises(BackendError, match=r"from version 0\.0\.1 to .* restart the program"):
        load_isolated(tiny_bpe_path)


def test_messages_that_cannot_be_read_fail_the_calls_that_wait(
    tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a worker that runs other code: nobody may wait for them forever."""

    def fail(*_: Any) -> Any:
        raise TypeError("unknown option 'new'")

    with load_isolated(tiny_bpe_path, isolated=WorkerConfig(n_load_attempts=2)) as model:
        with monkeypatch.context() as patch:
            patch.setattr(WorkerEvents, "handle", fail)
            patch.setattr(WorkerEvents, "until_loaded", fail)
            with pytest.raises(BackendError, match=r"unknown option 'new'\)\. If localgen has"):
                model.complete("the", **GREEDY)
        assert model.complete("the", **GREEDY).finish_reason == "length"


@POSIX
def test_calls_that_wait_for_a_restart_hold_up_nobody_else(
    tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts are tokenized by the process: who waits for it must not take asyncio's threads."""
    go_on, until_loaded = threading.Event(), WorkerEvents.until_loaded

    def late(*args: Any) -> Any:
        assert go_on.wait(END_SECONDS)
        return until_loaded(*args)

    async def ask(model: IsolatedModel) -> list[Any]:
        message = {"role": "user", "content": "the"}
        template = "{{ messages[0].content }}"
        prompts = [model.achat_prompt([message], chat_template=template) for _ in range(40)]
        waiting = asyncio.gather(*prompts)
        await asyncio.sleep(0)
        await asyncio.to_thread(go_on.set)
        return await waiting

    with load_isolated(tiny_bpe_path, isolated=WorkerConfig(n_load_attempts=1)) as model:
        monkeypatch.setattr(WorkerEvents, "until_loaded", late)
        pid = model.worker_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        while model.worker_pid == pid:
            pass
        assert len(asyncio.run(ask(model))) == 40


# --- the program's own end ---


SCRIPT = """\
import sys
from localgen import LocalModel
model = LocalModel.from_pretrained(sys.argv[1], n_ctx=512, n_threads=1, isolated=True)
print(model.worker_pid, flush=True)
"""


def start(tmp_path: Path, model: Path, code: str) -> subprocess.Popen[str]:
    """Run a program from a file without a guard for __main__."""
    script = tmp_path / "program.py"
    script.write_text(SCRIPT + code)
    return subprocess.Popen(
        [sys.executable, str(script), str(model)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def line_of(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    return program.stdout.readline().strip()


def assert_ends(pid: int) -> None:
    """Wait for the end of a process that is no child of this one."""
    try:
        psutil.Process(pid).wait(END_SECONDS)
    except psutil.NoSuchProcess:
        return


@pytest.mark.parametrize("code", ["", "model.stream('the', max_new_tokens=400)\n", "del model\n"])
def test_a_program_that_ends_leaves_no_process(
    code: str, tmp_path: Path, tiny_bpe_path: Path
) -> None:
    with start(tmp_path, tiny_bpe_path, code) as program:
        pid = int(line_of(program))
        assert program.wait(END_SECONDS) == 0
    assert_ends(pid)


def test_a_program_that_is_killed_leaves_no_process(tmp_path: Path, tiny_bpe_path: Path) -> None:
    with start(tmp_path, tiny_bpe_path, "input()\n") as program:
        pid = int(line_of(program))
        program.kill()
        program.wait(END_SECONDS)
    assert_ends(pid)


@pytest.mark.skipif(not hasattr(os, "fork"), reason=NO_FORK)
def test_a_fork_refuses_the_model_and_does_not_keep_its_process_alive(
    tmp_path: Path, tiny_bpe_path: Path
) -> None:
    code = """\
import os
if os.fork() == 0:
    try:
        model.complete("the")
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    model.close()
    input()  # outlives its parent
    os._exit(0)
os.wait() if len(sys.argv) > 2 else input()
"""
    with start(tmp_path, tiny_bpe_path, code) as program:
        pid = int(line_of(program))
        assert line_of(program).startswith(f"{BackendError.__name__} this process was forked")
        fork = psutil.Process(program.pid).children()
        program.kill()
        program.wait(END_SECONDS)
        assert_ends(pid)
        for each in fork:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone kills a process with its parent")
def test_a_worker_whose_function_holds_pythons_lock_ends_with_its_program(
    tmp_path: Path, tiny_bpe_path: Path
) -> None:
    mark = tmp_path / "holds"
    code = f"""\
from pathlib import Path
from tests.worker.functions import HoldLock
model.complete("the", logits_processor=HoldLock(Path({str(mark)!r})))
"""
    with start(tmp_path, tiny_bpe_path, code) as program:
        pid = int(line_of(program))
        while not mark.exists():
            pass
        program.kill()
        program.wait(END_SECONDS)
    assert_ends(pid)


@pytest.mark.skipif(not hasattr(os, "fork"), reason=NO_FORK)
def test_a_process_that_is_forked_while_a_worker_starts_does_not_hide_its_end(
    tmp_path: Path, tiny_bpe_path: Path
) -> None:
    """It would have the end of the pipe that the worker writes to."""
    code = """\
import os, signal, subprocess, threading
execute = subprocess.Popen._execute_child

def fork():
    if os.fork() == 0:
        input()
        os._exit(0)

def execute_late(*args, **given):
    forking.start()
    forking.join(0.3)
    execute(*args, **given)

def end_worker():
    pid = model.worker_pid
    os.kill(pid, signal.SIGKILL)
    while model.worker_pid == pid:
        pass
    return len(model.complete("the", max_new_tokens=3, min_new_tokens=3).token_ids)

forking = threading.Thread(target=fork)
subprocess.Popen._execute_child = execute_late
print(end_worker())
forking.join()
subprocess.Popen._execute_child = execute
print(end_worker(), flush=True)
"""
    with start(tmp_path, tiny_bpe_path, code) as program, ThreadPoolExecutor(1) as pool:
        lines = pool.submit(lambda: [line_of(program) for _ in range(3)])
        try:
            assert lines.result(END_SECONDS)[1:] == ["3", "3"]
        finally:
            for each in [*psutil.Process(program.pid).children(), program]:
                each.kill()


@POSIX
def test_ctrl_c_ends_the_call_and_not_the_worker(tmp_path: Path, tiny_bpe_path: Path) -> None:
    code = """\
from localgen import GenerationInterrupted
from tests.worker.functions import InterruptParent
pid = model.worker_pid
try:
    many = {"max_new_tokens": 480, "min_new_tokens": 480}
    model.complete("the", logits_processor=InterruptParent(3), **many)
except GenerationInterrupted as error:
    print(error.partial[0].finish_reason, len(error.partial[0].token_ids) >= 3, flush=True)
print(len(model.complete("the", max_new_tokens=3, min_new_tokens=3).token_ids))
print(model.worker_pid == pid, model.n_restarts, flush=True)
"""
    with start(tmp_path, tiny_bpe_path, code) as program:
        line_of(program)
        assert [line_of(program) for _ in range(3)] == [
            "cancelled True",
            "3",
            "True 0",
        ]
        assert program.wait(END_SECONDS) == 0


@POSIX
def test_ctrl_c_ends_a_call_whose_function_does_not_return(
    tmp_path: Path, tiny_bpe_path: Path
) -> None:
    code = """\
import localgen.worker.client
from localgen import GenerationInterrupted
from tests.worker.functions import InterruptParent
localgen.worker.client._SECONDS_FOR_REST = 0.1
many = {"max_new_tokens": 480, "min_new_tokens": 480}
try:
    model.complete("the", logits_processor=InterruptParent(3, returns=False), **many)
except GenerationInterrupted as error:
    print(error.partial[0].finish_reason, len(error.partial[0].token_ids), flush=True)
"""
    with start(tmp_path, tiny_bpe_path, code) as program:
        line_of(program)
        assert line_of(program) == "cancelled 3"
        assert program.wait(END_SECONDS) == 0


def test_closing_does_not_wait_for_a_worker_that_hangs(tiny_bpe_path: Path) -> None:
    model = load_isolated(tiny_bpe_path, isolated=WorkerConfig(close_seconds=0.2))
    stream = model.stream("the", logits_processor=functions.HangAfter(2), **GREEDY)
    next(stream)
    pid = model.worker_pid
    closing = threading.Thread(target=model.close)
    closing.start()
    closing.join(END_SECONDS)
    assert not closing.is_alive()
    assert pid is not None
    assert_ends(pid)
