"""What a process can do to a model: close, fork, threads, signals, garbage, exit.

Whatever could hang or abort runs in a child process, whose time limit is the only clock here.
"""

from __future__ import annotations

import gc
import random
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from localgen import ClosedError, DecodeError, GenerationInterrupted, LocalModel
from localgen.llama.in_flight_calls import InFlightCalls
from models import make_tiny
from tests.conformance.invariants import backend_of
from tests.conftest import Child, RunChild

IDS = [[40, 60, 70]]
ONE_THREAD: dict[str, Any] = {"n_ctx": 512, "n_threads": 1}
ODD_WARNINGS = "ignore"  # Python 3.12 warns of a fork next to threads, which is what is tested


def six(model: LocalModel) -> list[int]:
    """Six greedy tokens after IDS."""
    return model.generate(IDS, max_new_tokens=6, min_new_tokens=6)[0, 3:].tolist()


def assert_clean(child: Child, *lines: str) -> None:
    """The child ended well, said nothing on stderr, and printed just these lines."""
    assert (child.returncode, child.stderr) == (0, "")
    assert child.stdout.splitlines() == list(lines)


# --- closing ---

USES: dict[str, Callable[[LocalModel], object]] = {
    "generate": lambda model: model.generate(IDS),
    "complete": lambda model: model.complete("hello"),
    "stream": lambda model: model.stream("hello"),
    "score": lambda model: model.score("hello"),
}


@pytest.mark.parametrize("use", USES)
def test_use_after_close(use: str, tiny_bpe_path: Path) -> None:
    """Freed memory is never reached: every method says that the model is closed."""
    model = LocalModel.from_pretrained(tiny_bpe_path, **ONE_THREAD)
    six(model)
    model.close()
    model.close()
    with pytest.raises(ClosedError, match="closed"):
        USES[use](model)


def test_with_block_closes(tiny_bpe_path: Path) -> None:
    """Leaving the block closes, also by an exception; closing again inside is harmless."""
    with pytest.raises(KeyError), LocalModel.from_pretrained(tiny_bpe_path, **ONE_THREAD) as model:
        raise KeyError
    with pytest.raises(ClosedError):
        six(model)
    with LocalModel.from_pretrained(tiny_bpe_path, **ONE_THREAD) as model:
        model.close()


def test_stream_after_close(tiny_bpe_path: Path) -> None:
    """A stream that is left over ends with ClosedError, and keeps what it had."""
    with LocalModel.from_pretrained(tiny_bpe_path, **ONE_THREAD) as model:
        stream = model.stream("the cat", max_new_tokens=9, min_new_tokens=9)
        first = next(stream)
    with pytest.raises(ClosedError) as caught:
        next(stream)
    assert caught.value.partial[0].text.startswith(first)
    assert stream.completion.finish_reason == "cancelled"
    assert list(stream) == []


TOKENIZE_AFTER_CLOSE = """
import sys, localgen
model = localgen.LocalModel.from_pretrained(sys.argv[1], n_ctx=512, n_threads=1)
tokenizer = model.tokenizer
model.close()
uses = (
    lambda: tokenizer("hello"),
    lambda: tokenizer.decode([40]),
    lambda: tokenizer.eos_token_ids,
)
for use in uses:
    try:
        use()
    except localgen.ClosedError:
        print("closed")
"""


def test_tokenizer_after_close(tiny_bpe_path: Path, fork_child: RunChild) -> None:
    """The vocabulary is part of the model: its memory must not be read once it is freed."""
    child = fork_child(TOKENIZE_AFTER_CLOSE, tiny_bpe_path)
    assert_clean(child, "closed", "closed", "closed")


# --- closing while another thread tokenizes ---

# Each tokenization tells that it is about to go into C, and first does ``before_c()``.
TOKENIZING = """
import os, signal, sys, threading, localgen
model = localgen.LocalModel.from_pretrained(sys.argv[1], n_ctx=512, n_threads=1)
vocab, text = model._backend.vocab, "the cat " * 40000
right = model.tokenizer.encode(text)
inside, go_on, outcomes = threading.Event(), threading.Event(), []
tokenize = vocab._tokenize
def before_c():
    inside.set()
    go_on.wait()
def tokenize_when_told(*args):
    before_c()
    ids = tokenize(*args)
    outcomes.append(ids.tolist() == right)
    return ids
vocab._tokenize = tokenize_when_told
thread = threading.Thread(target=model.tokenizer.encode, args=(text,))
"""
CLOSED_WHILE_TOKENIZING = """
thread.start()
inside.wait()
closer = threading.Thread(target=model.close)
closer.start()
try:
    while True:
        vocab.token_bytes(0)
except localgen.ClosedError:
    print("refused", closer.is_alive())
go_on.set()
thread.join()
closer.join()
print(outcomes)
"""


def test_close_waits_for_a_tokenization(tiny_bpe_path: Path, fork_child: RunChild) -> None:
    """It once freed the vocabulary that C was reading: a crash, or a text of no tokens."""
    # The encode() of the main thread must not wait to be told.
    code = TOKENIZING + "vocab.tokenize_now = tokenize\n" + CLOSED_WHILE_TOKENIZING
    code = code.replace('model.tokenizer.encode("")', "model.tokenizer.eos_token_ids")
    assert_clean(fork_child(code, tiny_bpe_path), "refused True", "[True]")


CTRL_C_WHILE_TOKENIZING = """
def before_c():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
try:
    with model:
        model.tokenizer.encode(text)
except KeyboardInterrupt:
    print("interrupted", outcomes)
"""


def test_ctrl_c_in_a_long_tokenization(tiny_bpe_path: Path, fork_child: RunChild) -> None:
    """C cannot be stopped: the block must not close the model under a thread that goes on."""
    code = TOKENIZING + CTRL_C_WHILE_TOKENIZING
    assert_clean(fork_child(code, tiny_bpe_path), "interrupted [True]")


CLOSED_BY_A_HANDLER = """
def before_c():
    signal.raise_signal(signal.SIGINT)
signal.signal(signal.SIGINT, lambda *_: model.close())
try:
    model.tokenizer.encode("the cat")
except RuntimeError as error:
    print(error)
model.close()
"""


def test_closed_by_a_signals_handler(tiny_bpe_path: Path, fork_child: RunChild) -> None:
    """A handler that runs in the middle of a tokenization cannot wait for it."""
    child = fork_child(TOKENIZING + CLOSED_BY_A_HANDLER, tiny_bpe_path)
    line = "the model cannot be closed by a signal handler while it tokenizes"
    assert_clean(child, line)


def test_ctrl_c_as_a_call_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the call is crossed out: it is not waited for all the same."""

    class Interrupted(dict[Any, int]):
        def pop(self, *_: Any) -> int:
            raise KeyboardInterrupt

    uses = InFlightCalls()
    monkeypatch.setattr(uses, "_running", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        uses.run(lambda: 1)
    uses.end()


FORKED_WHILE_TOKENIZING = """
thread.start()
inside.wait()
pid = os.fork()
if not pid:
    signal.alarm(10)  # a hang ends the child by SIGALRM
    model.close()
    sys.exit(3)
go_on.set()
thread.join()
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status), outcomes)
"""


@pytest.mark.parametrize("closes", [True, False])
def test_fork_while_a_thread_tokenizes(
    closes: bool, tiny_bpe_path: Path, fork_child: RunChild
) -> None:
    """The child lacks the thread, so neither its close nor its exit may wait for it."""
    code = TOKENIZING + FORKED_WHILE_TOKENIZING
    code = code if closes else code.replace("    model.close()\n", "")
    assert_clean(fork_child(code, tiny_bpe_path, warnings=ODD_WARNINGS), "3 [True]")


LAST_AT_EXIT = """
import atexit
atexit.register(lambda: print(outcomes))
"""
DAEMON_AT_EXIT = """
thread.daemon = True
thread.start()
inside.wait()
atexit.register(go_on.set)  # what was registered last runs first, before the model's end
"""


def test_exit_while_a_daemon_thread_tokenizes(tiny_bpe_path: Path, fork_child: RunChild) -> None:
    """The end of the process frees the model too, and waits as close() does."""
    child = fork_child(LAST_AT_EXIT + TOKENIZING + DAEMON_AT_EXIT, tiny_bpe_path)
    assert_clean(child, "[True]")


NO_ROOM_FOR_A_STACK = """
import resource, sys, localgen
model = localgen.LocalModel.from_pretrained(sys.argv[1], n_ctx=512, n_threads=1)
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 256 * 2**20,) * 2)
print(len(model.tokenizer.encode("a" * 4095)))
try:
    model.tokenizer.encode("a" * 900_000)
except localgen.BackendError as error:
    print("a stack of 441 MiB" in str(error))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_no_room_for_a_big_stack(tiny_bpe_path: Path, fork_child: RunChild) -> None:
    """Under a limit of memory it once was Python's "can't start new thread"."""
    assert_clean(fork_child(NO_ROOM_FOR_A_STACK, tiny_bpe_path), "4095", "True")


# --- fork ---

FORK = """
import os, signal, sys, localgen
ids = [[40, 60, 70]]
model = localgen.LocalModel.from_pretrained(sys.argv[1], n_ctx=512, n_threads=2)
stream = model.stream("the cat", max_new_tokens=8, min_new_tokens=8)
next(stream)
before = model.generate(ids, max_new_tokens=4).tolist()
uses = (
    lambda: model.generate(ids),
    lambda: model.complete("hi"),
    lambda: model.score("hello the cat"),
    lambda: next(stream),
)
pid = os.fork()
if not pid:
    signal.alarm(10)  # a hang ends the child by SIGALRM
    refused = 0
    for use in uses:
        try:
            use()
        except localgen.BackendError as error:
            refused += "fork" in str(error)
    {end}
_, status = os.waitpid(pid, 0)
print("child", os.waitstatus_to_exitcode(status))
print("same", model.generate(ids, max_new_tokens=4).tolist() == before)
print("stream", len(list(stream)) > 0)
"""
ENDS = {
    "_exit": "os._exit(refused)",
    "exit": "sys.exit(refused)",
    "close": "model.close(); stream.close(); sys.exit(refused)",
}


@pytest.mark.parametrize("end", ENDS)
def test_forked_child(end: str, tiny_bpe_path: Path, fork_child: RunChild) -> None:
    """llama.cpp's threads are gone in a forked child, which would wait for them for ever."""
    child = fork_child(FORK.format(end=ENDS[end]), tiny_bpe_path, warnings=ODD_WARNINGS)
    assert_clean(child, "child 4", "same True", "stream True")


LOAD_AFTER_FORK = """
import os, signal, sys, localgen
def load(n_threads):
    with localgen.LocalModel.from_pretrained(sys.argv[1], n_ctx=512, n_threads=n_threads) as model:
        return model.generate([[40, 60, 70]], max_new_tokens=4).tolist()
before = load(int(sys.argv[2]))
pid = os.fork()
if not pid:
    signal.alarm(20)  # a hang ends the child by SIGALRM
    outcome = 0
    for n_threads in (2, 1):
        try:
            outcome += 10 * n_threads * (load(n_threads) == before)
        except localgen.BackendError as error:
            outcome += "'spawn'" in str(error) and "n_threads=1" in str(error)
    os._exit(outcome)
_, status = os.waitpid(pid, 0)
print("child", os.waitstatus_to_exitcode(status))
print("same", load(int(sys.argv[2])) == before)
"""


@pytest.mark.parametrize(("n_threads", "outcome"), [(2, 11), (1, 30)])
def test_load_in_a_forked_child(
    n_threads: int, outcome: int, tiny_bpe_path: Path, fork_child: RunChild
) -> None:
    """Regression: after a pass with two threads, a model loaded in a child waited forever.

    One thread works there, and after passes with one thread everything does.
    """
    child = fork_child(LOAD_AFTER_FORK, tiny_bpe_path, n_threads, warnings=ODD_WARNINGS)
    assert_clean(child, f"child {outcome}", "same True")


FORK_IN_A_CALL = """
import os, signal, sys, threading, localgen
inside, go_on = threading.Event(), threading.Event()
def hold(input_ids, scores):
    inside.set()
    go_on.wait()
    return scores
model = localgen.LocalModel.from_pretrained(sys.argv[1], n_ctx=512, n_threads=2)
def call():
    model.generate([[40]], max_new_tokens=2, logits_processor=hold)
thread = threading.Thread(target=call)
thread.start()
inside.wait()
pid = os.fork()
if not pid:
    signal.alarm(10)
    try:
        with model:
            model.generate([[40]])
    except localgen.BackendError:
        os._exit(7)
_, status = os.waitpid(pid, 0)
go_on.set()
thread.join()
print("child", os.waitstatus_to_exitcode(status))
"""


def test_fork_while_another_thread_generates(tiny_bpe_path: Path, fork_child: RunChild) -> None:
    """In the child, the lock is held by a thread that does not exist: nothing may wait for it."""
    child = fork_child(FORK_IN_A_CALL, tiny_bpe_path, warnings=ODD_WARNINGS)
    assert_clean(child, "child 7")


# --- threads and callbacks ---


def test_eight_threads(tiny: LocalModel) -> None:
    """Calls at the same time are serialised: each gives what it gives alone."""
    prompts = [[40 + i, 60, 70 + i] for i in range(24)]

    def call(ids: list[int]) -> list[int]:
        return tiny.generate([ids], max_new_tokens=6, min_new_tokens=6)[0].tolist()

    alone = [call(ids) for ids in prompts]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(call, prompts))
    assert together == alone


def test_streams_of_two_threads(tiny: LocalModel) -> None:
    """Streams that displace each other in the KV cache go on where they were."""

    def read(text: str) -> list[int]:
        stream = tiny.stream(text, max_new_tokens=8, min_new_tokens=8)
        for _ in stream:
            pass
        return stream.completion.token_ids

    texts = ["the cat", "hello", "42"]
    alone = [read(text) for text in texts]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(read, texts)) == alone


@pytest.mark.parametrize("name", ["logits_processor", "stopping_criteria"])
def test_model_called_by_its_own_callback(name: str, tiny: LocalModel) -> None:
    """A call inside a step would tear that step apart."""

    class Nested:
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            tiny.generate(IDS, max_new_tokens=1)

        def put(self, value: Any) -> None:
            tiny.complete("hello", max_new_tokens=1)

        def end(self) -> None:
            pass

    before = six(tiny)
    hooks: dict[str, Any] = {name: Nested()}
    with pytest.raises(RuntimeError, match="own callback"):
        tiny.generate(IDS, max_new_tokens=3, **hooks)
    assert six(tiny) == before


@pytest.mark.parametrize("name", ["logits_processor", "stopping_criteria"])
def test_model_closed_by_its_own_callback(
    name: str, tiny_bpe_path: Path, fork_child: RunChild
) -> None:
    """Closing a model that is generating must not free what the forward pass reads next."""
    code = """
import sys, localgen
model = localgen.LocalModel.from_pretrained(sys.argv[1], n_ctx=512, n_threads=1)
def close(input_ids, scores):
    model.close()
    return False if scores is None else scores
try:
    model.generate([[40, 60]], max_new_tokens=4, min_new_tokens=4, **{sys.argv[2]: close})
except (localgen.ClosedError, RuntimeError) as error:
    print("refused")
"""
    assert_clean(fork_child(code, tiny_bpe_path, name), "refused")


# --- Ctrl-C ---


@pytest.fixture
def interrupt(tiny: LocalModel, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """``interrupt(n)``: a SIGINT comes at the n-th forward pass from now."""
    backend = backend_of(tiny)
    decode = backend.decode

    def at(n_passes: int) -> None:
        passes: Iterator[int] = iter(range(1, 1000))

        def decode_or_stop(*args: Any) -> Any:
            if next(passes) == n_passes:
                signal.raise_signal(signal.SIGINT)
            return decode(*args)

        monkeypatch.setattr(backend, "decode", decode_or_stop)

    return at


@pytest.mark.parametrize("n_passes", [1, 4])
def test_ctrl_c_in_generate(
    n_passes: int, tiny: LocalModel, interrupt: Callable[[int], None]
) -> None:
    """What was generated before Ctrl-C is in ``partial``, and the next call is right."""
    whole = six(tiny)
    interrupt(n_passes)
    with pytest.raises(GenerationInterrupted) as caught:
        six(tiny)
    assert caught.value.partial.sequences[0].tolist() == IDS[0] + whole[:n_passes]
    assert caught.value.partial.finish_reasons == ["cancelled"]
    assert six(tiny) == whole


def test_ctrl_c_in_a_batch(tiny: LocalModel, interrupt: Callable[[int], None]) -> None:
    """complete() gives a Completion a prompt, those that had not begun included."""
    prompts = ["the cat", "hello", "42"]
    whole = [c.token_ids for c in tiny.complete(prompts, max_new_tokens=6, min_new_tokens=6)]
    interrupt(4)
    with pytest.raises(GenerationInterrupted) as caught:
        tiny.complete(prompts, max_new_tokens=6, min_new_tokens=6)
    assert [c.token_ids for c in caught.value.partial] == [ids[:4] for ids in whole]
    again = tiny.complete(prompts, max_new_tokens=6, min_new_tokens=6)
    assert [c.token_ids for c in again] == whole


def test_ctrl_c_in_a_stream(tiny: LocalModel, interrupt: Callable[[int], None]) -> None:
    """A stream ends at Ctrl-C: ``completion`` and ``partial`` hold the same tokens."""
    whole = tiny.complete("the cat", max_new_tokens=6, min_new_tokens=6).token_ids
    stream = tiny.stream("the cat", max_new_tokens=6, min_new_tokens=6)
    interrupt(4)
    with pytest.raises(GenerationInterrupted) as caught:
        list(stream)
    assert caught.value.partial[0].token_ids == stream.completion.token_ids == whole[:4]
    assert list(stream) == []
    assert tiny.complete("the cat", max_new_tokens=6, min_new_tokens=6).token_ids == whole


LONG_PREFILL = """
import signal, sys, localgen
signal.signal(signal.SIGALRM, signal.default_int_handler)
model = localgen.LocalModel.from_pretrained(sys.argv[1], n_ctx=8200, n_batch=8192, n_threads=1)
def six():
    return model.generate([[40, 60, 70]], max_new_tokens=6, min_new_tokens=6).tolist()
before = six()
backend, decode = model._backend, model._backend.decode
def decode_with_timer(*args):
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    return decode(*args)
backend.decode = decode_with_timer
prompt = [[3 + i % 250 for i in range(8192)]]
try:
    model.generate(prompt, max_new_tokens=8, **eval(sys.argv[2]))
    print("ran to its end")
except localgen.GenerationInterrupted as error:
    print("interrupted", error.partial.sequences.tolist() == prompt, error.partial.finish_reasons)
backend.decode = decode
print("same", six() == before)
"""


@pytest.mark.parametrize("options", ["{}", "{'max_time': 600}"])
def test_ctrl_c_inside_a_long_forward_pass(
    options: str, tiny_bpe_path: Path, fork_child: RunChild
) -> None:
    """A signal that comes while C computes stops the pass and is KeyboardInterrupt in Python.

    It once was swallowed between ctypes and the callback: "Exception ignored", and a DecodeError.
    """
    child = fork_child(LONG_PREFILL, tiny_bpe_path, options)
    assert child.returncode == 0, child.stderr
    assert child.stdout.splitlines() == ["interrupted True ['cancelled']", "same True"]
    assert "ctypes callback" not in child.stderr


def test_two_ctrl_c_anywhere_in_a_call(tiny: LocalModel) -> None:
    """The model is usable and exact after them; the fast layer tries all lines of the driver."""
    rng, before = random.Random(0), six(tiny)
    n_lines = traced(tiny, ())
    for _ in range(30):
        first = rng.randrange(n_lines)
        traced(tiny, (first, first + 1 + int(10 ** rng.uniform(0, 2.5))))
        assert six(tiny) == before, first


def traced(model: LocalModel, numbers: tuple[int, ...]) -> int:
    """Complete two texts, with SIGINT before the lines of these numbers; return how many ran."""
    n_lines = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal n_lines
        if "localgen" not in frame.f_code.co_filename:
            return None
        if event == "line":
            n_lines += 1
            if n_lines in numbers:
                signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    try:
        sys.settrace(trace)
        model.complete(["the cat", [40, 60, 70, 80]], max_new_tokens=3)
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return n_lines


def test_deadline_inside_a_long_forward_pass(tiny_bpe_path: Path) -> None:
    """max_time stops a prefill that would take longer, and the row says so."""
    options: dict[str, Any] = {"n_ctx": 8200, "n_batch": 8192, "n_threads": 1}
    with LocalModel.from_pretrained(tiny_bpe_path, **options) as model:
        before = six(model)
        prompt = np.resize(np.arange(3, 250), (1, 8192))
        output = model.generate(prompt, max_time=0.05, return_dict_in_generate=True)
        assert output.finish_reasons == ["time"]
        assert output.sequences.tolist() == prompt.tolist()
        assert six(model) == before


def test_deadline_that_is_over_at_once(tiny: LocalModel) -> None:
    """A deadline before the first token leaves every row without one."""
    completions = tiny.complete(["the cat", "hello"], max_time=1e-9)
    assert [c.finish_reason for c in completions] == ["time", "time"]
    assert [c.token_ids for c in completions] == [[], []]


# --- streams left behind, and damaged weights ---


def test_abandoned_stream(tiny: LocalModel) -> None:
    """A stream that is dropped half-way leaves nothing in the next call's way."""
    before = six(tiny)
    stream = tiny.stream("the cat", max_new_tokens=8, min_new_tokens=8)
    next(stream)
    del stream
    gc.collect()
    assert six(tiny) == before
    for _ in tiny.stream("hello", max_new_tokens=8, min_new_tokens=8):
        break
    assert six(tiny) == before


def poisoned_model(
    path: Path, monkeypatch: pytest.MonkeyPatch, tensor: str, row: int | slice
) -> LocalModel:
    """The tiny BPE model with NaN in some rows of one tensor."""
    healthy = make_tiny.llama_weights

    def weights(*args: Any) -> dict[str, Any]:
        tensors = healthy(*args)
        tensors[tensor][row] = np.nan
        return tensors

    monkeypatch.setattr(make_tiny, "llama_weights", weights)
    make_tiny.make_llama_bpe(path)
    return LocalModel.from_pretrained(path, **ONE_THREAD)


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "seed": 1}], ids=str)
def test_nan_weights(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damaged weights give an error, not a token that argmax makes of NaN."""
    path = tmp_path / "nan.gguf"
    with poisoned_model(path, monkeypatch, "output_norm.weight", slice(None)) as model:
        with pytest.raises(DecodeError, match="not finite") as caught:
            model.complete("the cat", **options)
        assert [c.token_ids for c in caught.value.partial] == [[]]
        with pytest.raises(DecodeError, match="not finite") as caught:
            model.generate(IDS, **options)
        assert caught.value.partial.sequences.tolist() == IDS


def test_nan_after_some_tokens(
    tiny: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokens before the first NaN are in ``partial``."""
    whole = six(tiny)
    path = tmp_path / "nan.gguf"
    with poisoned_model(path, monkeypatch, "token_embd.weight", whole[3]) as model:
        with pytest.raises(DecodeError, match="not finite") as caught:
            six(model)
        assert caught.value.partial.sequences[0, 3:].tolist() == whole[:4]


@pytest.mark.parametrize("tensor", ["output_norm.weight"])
def test_nan_in_score(tensor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scoring does not hand out NaN as log-probabilities."""
    path = tmp_path / "nan.gguf"
    with (
        poisoned_model(path, monkeypatch, tensor, slice(None)) as model,
        pytest.raises(DecodeError, match="not finite"),
    ):
        model.score("hello the cat")


# --- the end of the process ---

EXIT = """
import sys, localgen
model = localgen.LocalModel.from_pretrained(sys.argv[1], n_ctx=512)
stream = model.stream("the cat", max_new_tokens=50, min_new_tokens=50)
next(stream)
"""
EXIT_ENDS = {
    "end of the script": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "in a cycle": ("model.me = model; stream.me = stream; del model, stream", 0),
    "in a module": ("sys.modules['keeps'] = model", 0),
    "model first": ("del model", 0),
    "second model": ("other = localgen.LocalModel.from_pretrained(sys.argv[1])", 0),
}


@pytest.mark.parametrize("end", EXIT_ENDS)
def test_exit_with_an_open_model(end: str, tiny_bpe_path: Path, run_child: RunChild) -> None:
    """Nobody has to close: the interpreter ends with its own exit code and says nothing."""
    code, returncode = EXIT_ENDS[end]
    child = run_child(EXIT + code, tiny_bpe_path)
    assert (child.returncode, child.stdout, child.stderr) == (returncode, "", "")


LOAD_AND_CLOSE = """
import gc, os, pathlib, sys, localgen
maps = pathlib.Path("/proc/self/maps")
def n_open():
    gc.collect()
    return len(os.listdir("/proc/self/fd")), maps.read_text().count(sys.argv[1])
def use():
    model = localgen.LocalModel.from_pretrained(sys.argv[1], n_ctx=512, n_threads=1)
    model.generate([[40]], max_new_tokens=1)
    return model
use().close()
before = n_open()
for _ in range(100):
    use().close()
print(n_open() == before)
for _ in range(10):
    use()
print(n_open() == before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_hundred_loads(tiny_bpe_path: Path, fork_child: RunChild) -> None:
    """Loading and closing, or just dropping, gives files and memory back."""
    assert_clean(fork_child(LOAD_AND_CLOSE, tiny_bpe_path), "True", "True")
