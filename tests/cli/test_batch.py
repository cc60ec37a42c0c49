"""``localgen batch`` on a tiny model: kills, signals, exit codes, stdout and stderr."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pexpect
import psutil
import pytest
from gguf import GGUFWriter

import localgen
from localgen.cli import batch as batch_module
from localgen.jobs.rows import row_seed
from models.make_tiny import LlamaShape, bpe_vocab, finish, write_llama, write_vocab
from tests.cli.test_generate import COMMAND, ENVIRONMENT, Result, assert_refused, localgen_command
from tests.conftest import CHILD_SECONDS, RunChild

N_ROWS = 16
# Two rows at a time, so that most of them are left when the first two are done.
SLOW = [
    *("--max-new-tokens", "400", "--min-new-tokens", "400", "--temperature", "1.5"),
    *("--n-ctx", "512", "--n-threads", "1", "--max-sequences", "2"),
]
QUICK = ["--max-new-tokens", "4", "--min-new-tokens", "4", "--n-threads", "1"]


class Command:
    """``localgen batch`` on the tiny model, with its files in a folder."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.source, self.target = folder / "in.jsonl", folder / "out.jsonl"
        self.model = model

    def write(self, *rows: Any) -> None:
        """Write the input: objects as JSON, text as it is."""
        texts = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        self.source.write_text("".join(text + "\n" for text in texts))

    def args(self, *args: object, target: object = None) -> list[str]:
        given = (self.source, target or self.target, "-m", self.model, *args)
        return ["batch", *map(str, given)]

    def __call__(self, *args: object, target: object = None) -> Result:
        return localgen_command(*self.args(*args, target=target))

    @contextmanager
    def started(self, *args: object) -> Iterator[subprocess.Popen[str]]:
        """Start the command in a process of its own; kill it at the end if it still runs."""
        process = subprocess.Popen(
            [*COMMAND, *self.args(*args)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def wait_for_lines(self, n_lines: int, process: subprocess.Popen[str]) -> None:
        """Wait until the output has ``n_lines`` complete lines."""
        deadline = time.monotonic() + CHILD_SECONDS
        while not self.target.exists() or self.target.read_bytes().count(b"\n") < n_lines:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline

    def texts(self) -> dict[Any, str]:
        """Return each row's text; assert that no row is there twice."""
        records = [json.loads(line) for line in self.target.read_bytes().splitlines()[1:]]
        done = [record for record in records if "text" in record]
        assert len({record["id"] for record in done}) == len(done)
        return {record["id"]: record["text"] for record in done}


@pytest.fixture
def batch(tmp_path: Path, tiny_bpe_path: Path) -> Command:
    return Command(tmp_path, tiny_bpe_path)


@pytest.fixture
def slow(batch: Command) -> Command:
    """A job whose rows take a while."""
    batch.write(*({"id": f"row {i}", "prompt": f"the cat {i}"} for i in range(N_ROWS)))
    return batch


# --- killed and resumed ---


def test_killed_and_resumed(slow: Command) -> None:
    """A killed process loses no row; resuming runs each of the others once.

    The texts, which are sampled, are those of a run that was not killed.
    """
    # Thousands of draws: without --deterministic, one may depend on the last bits of a logit.
    args = [*SLOW, "--deterministic"]
    with slow.started(*args) as process:
        slow.wait_for_lines(3, process)
        process.kill()
        process.wait(CHILD_SECONDS)
    there = slow.target.read_bytes()
    n_done = there.count(b"\n") - 1
    assert 2 <= n_done < N_ROWS
    result = slow(*args)
    assert result.returncode == 0, result.stderr
    assert f"{n_done} of {N_ROWS} lines are already done" in result.stderr
    assert f"{N_ROWS - n_done} done" in result.stderr
    assert slow.target.read_bytes().startswith(there[: there.rindex(b"\n") + 1])
    resumed = slow.texts()
    seed = json.loads(there.splitlines()[0])["seed"]
    assert slow(*args, "--seed", seed, "--overwrite").returncode == 0
    assert len(resumed) == N_ROWS
    assert slow.texts() == resumed


def test_killed_again_and_again(slow: Command) -> None:
    """Each kill leaves what was there, and the last run completes it."""
    before = b""
    for n_lines in (1, 3, 4, 7):
        with slow.started(*SLOW) as process:
            slow.wait_for_lines(n_lines, process)
            process.kill()
            process.wait(CHILD_SECONDS)
        there = slow.target.read_bytes()
        assert there.startswith(before)
        before = there[: there.rindex(b"\n") + 1]
    assert slow(*SLOW).returncode == 0
    assert slow.target.read_bytes().startswith(before)
    assert len(slow.texts()) == N_ROWS


def test_interrupted_and_resumed(slow: Command) -> None:
    """Ctrl-C exits with 130 and says how many are left; the same command resumes."""
    with slow.started(*SLOW) as process:
        slow.wait_for_lines(2, process)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=CHILD_SECONDS)
    assert (process.returncode, output) == (130, "")
    assert "Traceback" not in errors
    n_done = len(slow.texts())
    assert 1 <= n_done < N_ROWS
    assert f"{n_done} done, {N_ROWS - n_done} left" in errors
    assert slow(*SLOW).returncode == 0
    assert len(slow.texts()) == N_ROWS


def test_second_process(slow: Command) -> None:
    """Two commands cannot write the same file, not even with --overwrite."""
    with slow.started(*SLOW) as process:
        slow.wait_for_lines(1, process)
        psutil.Process(process.pid).suspend()  # so that it does not finish meanwhile
        assert_refused(slow(*SLOW), 1, str(slow.target), "another process")
        assert_refused(slow(*SLOW, "--overwrite"), 1, "another process")


# --- what goes where ---


def test_output(batch: Command, tiny: localgen.LocalModel) -> None:
    """The output has a header to repeat the job by, then the results of complete()."""
    batch.write({"prompt": "the cat"}, {"id": "b", "prompt": "a dog", "max_new_tokens": 6})
    result = batch(*QUICK, "--seed", "3", "--logprobs", "1", "--no-do-sample")
    assert (result.returncode, result.stdout) == (0, "")
    header = json.loads(batch.target.read_bytes().splitlines()[0])
    assert header["localgen_batch"] == 1
    assert header["model"]["file"] == batch.model.name
    assert header["model"]["size"] == batch.model.stat().st_size
    assert set(header["versions"]) == {"localgen", "llama-cpp-python", "numpy", "python"}
    assert header["model_options"]["n_threads"] == 1
    assert header["generation_options"]["max_new_tokens"] == 4
    assert header["seed"] == 3
    options: dict[str, Any] = {"min_new_tokens": 4, "do_sample": False}
    assert batch.texts() == {
        1: tiny.complete("the cat", max_new_tokens=4, **options).text,
        "b": tiny.complete("a dog", max_new_tokens=6, **options).text,
    }


def test_bad_line(batch: Command) -> None:
    """The exit code is 1, stderr has the line's number and error, and the other lines are done."""
    batch.write({"prompt": "a"}, {"prompt": "b", "temprature": 1}, {"prompt": "c"})
    for again in (False, True):
        result = batch(*QUICK, "--quiet")
        assert result.returncode == 1
        (line,) = result.stderr.splitlines()
        assert line.startswith("localgen: line 2: unknown option 'temprature'"), again
        assert set(batch.texts()) == {1, 3}


def test_quiet(batch: Command) -> None:
    """--quiet prints nothing if all goes well; without it, there is one line."""
    batch.write({"prompt": "a"})
    assert batch(*QUICK, "--quiet").stderr == ""
    assert batch(*QUICK, "--overwrite").stderr == "localgen: 1 done\n"
    assert batch(*QUICK).stderr == "localgen: 1 of 1 lines are already done\n"


def test_stdin_to_stdout(batch: Command) -> None:
    """With -, a job is a filter: stdout has the records and nothing else."""
    args = ["batch", "-", "-", "-m", batch.model, *QUICK]
    result = localgen_command(*args, input='{"prompt": "é"}\n\n{"prompt": "b"}\n')
    assert result.returncode == 0, result.stderr
    header, *records = map(json.loads, result.stdout.splitlines())
    assert header["localgen_batch"] == 1
    assert {record["line"]: record["prompt"] for record in records} == {1: "é", 3: "b"}


def write_warm(path: Path) -> None:
    """Write the tiny model with sampling options in its file."""
    vocab = bpe_vocab()
    writer = GGUFWriter(path, "llama")
    writer.add_float32("general.sampling.temp", 1.5)
    writer.add_int32("general.sampling.top_k", 40)
    write_llama(writer, LlamaShape(512), len(vocab.tokens), 0, "F32")
    write_vocab(writer, vocab)
    finish(writer)


def test_the_files_sampling(batch: Command, tmp_path: Path) -> None:
    """Regression: the file's sampling options were ignored, unlike in complete().

    The command line and the input's lines override them, even with default values.
    """
    batch.model = tmp_path / "warm.gguf"
    write_warm(batch.model)
    batch.write({"id": "file", "prompt": "the cat"}, {"id": "line", "prompt": "x", "top_k": 1})
    assert batch(*QUICK).returncode == 0
    header, *rows = map(json.loads, batch.target.read_text().splitlines())
    assert header["generation_options"]["temperature"] == 1.5
    assert header["generation_options"]["top_k"] == 40
    seeds = {row["id"]: row["stats"]["seed"] for row in rows}
    assert seeds == {each: row_seed(header["seed"], each) for each in ("file", "line")}
    assert batch(*QUICK, "--temperature", "1.0", "--overwrite").returncode == 0
    header = json.loads(batch.target.read_text().splitlines()[0])
    assert header["generation_options"]["temperature"] == 1.0
    assert header["generation_options"]["top_k"] == 40
    assert batch(*QUICK, "--no-do-sample", "--overwrite").returncode == 0
    header, row, _ = map(json.loads, batch.target.read_text().splitlines())
    assert header["generation_options"]["temperature"] == 1.0
    assert row["stats"]["seed"] is None


def test_bar_in_a_terminal(batch: Command) -> None:
    """In a terminal a bar shows rows and speed; errors are printed above it."""
    batch.write({"prompt": "a"}, {"prompt": 1}, {"prompt": "b"})
    child = pexpect.spawn(
        COMMAND[0],
        [*COMMAND[1:], *batch.args(*QUICK)],
        encoding="utf-8",
        timeout=CHILD_SECONDS,
        dimensions=(24, 120),
        env={**ENVIRONMENT, "TERM": "xterm"},
    )
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 1
    assert "line 2: prompt must be a string" in child.before
    assert "3/3" in child.before
    assert "tokens/s" in child.before


def test_the_bar_ends_before_the_last_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: Ctrl-C printed the message above the bar, which was then drawn once more."""
    events: list[str] = []

    @contextmanager
    def job_bar(_n_rows: int) -> Iterator[Callable[[int], None]]:
        try:
            yield lambda _: None
        finally:
            events.append("bar ended")

    class OneOfTwo:
        n_rows, n_done = 2, 0

        def run(self, _model: object, report: Callable[[Any], None]) -> None:
            report({"stats": {"n_new": 1}})
            raise KeyboardInterrupt

    monkeypatch.setattr(batch_module, "job_bar", job_bar)
    monkeypatch.setattr(batch_module, "_say", events.append)
    job: Any = OneOfTwo()
    model: Any = None
    with pytest.raises(KeyboardInterrupt):
        batch_module._run(job, model, quiet=False, with_bar=True)
    assert events == ["bar ended", "1 done, 1 left. Run the same command again to resume."]


@pytest.mark.parametrize(
    "redirected", ["2> >(true)", "2> /dev/full", "2>&-", "> >(true) 2>&1", "2>&1 | head -n 1"]
)
def test_messages_that_nobody_reads(redirected: str, batch: Command) -> None:
    """Regression: the job ended at the first message that it could not print."""
    rows = [{"prompt": "a"} if n % 4 else {"prompt": n} for n in range(1, 41)]
    batch.write(*rows)
    command = shlex.join([*COMMAND, *batch.args(*QUICK)])
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} {redirected}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=ENVIRONMENT,
        timeout=CHILD_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert len(batch.texts()) == 30
    assert len(batch.target.read_bytes().splitlines()) == 41


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_input_with_a_name_that_is_not_text(batch: Command) -> None:
    """Its bytes reach Python as lone surrogates, which no JSON file can hold as they are."""
    batch.write({"prompt": "a"})
    folder = batch.source.parent / os.fsdecode(b"\xff")
    folder.mkdir()
    batch.source = batch.source.rename(folder / "in.jsonl")
    batch.target = folder / "out.jsonl"
    link = folder / "m.gguf"
    link.symlink_to(batch.model)
    batch.model = link
    result = batch(*QUICK)
    assert (result.returncode, len(batch.texts())) == (0, 1), result.stderr


# --- wrong usage: 2; what cannot be done: 1 ---


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--temprature", "1"], ["--temprature"]),
        (["--top-p", "1.5"], ["--top-p", "1.5"]),
        (["--max-sequences", "0"], ["--max-sequences", "0"]),
        (["--max-sequences", "2", "--num-beams", "3"], ["--num-beams", "3", "--max-sequences"]),
        (["--device", "gpu"], ["device", "'gpu'"]),
        (["--deterministic", "--flash-attention", "on"], ["deterministic"]),
        (["third"], ["third"]),
    ],
    ids=" ".join,
)
def test_wrong_usage(args: list[str], parts: list[str], batch: Command) -> None:
    """The exit code is 2, and no file is touched."""
    batch.write({"prompt": "a"})
    assert_refused(batch(*args), 2, *parts)
    assert not batch.target.exists()


def test_missing_argument(batch: Command) -> None:
    """A job needs an input and an output."""
    assert_refused(localgen_command("batch", batch.source), 2, "OUT")


def test_input_is_the_output(batch: Command) -> None:
    """It is refused before the file is touched, with --overwrite too."""
    batch.write({"prompt": "a"})
    before = batch.source.read_bytes()
    for options in ([], ["--overwrite"]):
        assert_refused(batch(*options, target=batch.source), 2, "same file")
    with batch.source.open() as stdin:
        args = ("batch", "-", batch.source, "-m", batch.model)
        assert_refused(localgen_command(*args, stdin=stdin), 2, "same file")
    assert batch.source.read_bytes() == before


def test_missing_input(batch: Command) -> None:
    """The message names the input, and no output is created."""
    assert_refused(batch(), 1, str(batch.source), "no such file")
    assert not batch.target.exists()


def test_results_of_another_job(batch: Command) -> None:
    """The message says what differs and how to start over."""
    batch.write({"prompt": "a"})
    assert batch(*QUICK).returncode == 0
    before = batch.target.read_bytes()
    assert_refused(batch(*QUICK, "--top-k", "3"), 1, "--top-k was 50 and is now 3", "--overwrite")
    assert batch.target.read_bytes() == before


def test_overwrite_with_a_model_that_cannot_be_loaded(batch: Command, tmp_path: Path) -> None:
    """Results are discarded only after the model has loaded."""
    batch.write({"prompt": "a"})
    assert batch(*QUICK).returncode == 0
    before = batch.target.read_bytes()
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(batch.model.read_bytes()[:5000])
    batch.model = damaged
    assert_refused(batch(*QUICK, "--overwrite"), 1, "damaged.gguf")
    assert batch.target.read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_disk_that_is_full(batch: Command) -> None:
    """It is an error with a message, for a file and for stdout."""
    batch.write({"prompt": "a"})
    assert_refused(batch(*QUICK, target="/dev/full"), 1, "No space left")
    with open("/dev/full", "w") as stdout:
        done = subprocess.run(
            [*COMMAND, *batch.args(*QUICK, target="-")],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            timeout=CHILD_SECONDS,
            check=False,
        )
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_job_does_not_import_the_rest(run_child: RunChild, batch: Command) -> None:
    """A job imports no more than ``generate``; rich only if there is a bar."""
    batch.write({"prompt": "a"})
    code = (
        "import atexit, sys; from localgen.cli import main\n"
        "heavy = ['huggingface_hub', 'torch', 'gguf', 'matplotlib', 'rich.progress']\n"
        "atexit.register(lambda: print([m for m in heavy if m in sys.modules]))\n"
        "sys.argv = ['localgen', *sys.argv[1:]]\n"
        "main()"
    )
    child = run_child(code, *batch.args(*QUICK), warnings="default")
    assert child.returncode == 0, child.stderr
    assert child.stdout == "[]\n"


def test_a_warning_names_its_line_and_is_printed_once(batch: Command) -> None:
    """Regression: nothing said which line of the job it was about."""
    greedy = {"prompt": "a", "do_sample": False, "temperature": 2}
    batch.write({"prompt": "a"}, greedy, greedy)
    result = batch(*QUICK)
    assert result.returncode == 0
    found = [line for line in result.stderr.splitlines() if "has no effect" in line]
    assert len(found) == 1
    assert found[0].startswith("localgen: line 2: --temperature has no effect")


def test_a_job_that_other_versions_began(capsys: pytest.CaptureFixture[str]) -> None:
    """Each version that changed is named; a job that begins has no other versions."""
    old, new = ({"versions": {"localgen": "1", "numpy": numpy}} for numpy in ("1.0", "2.0"))
    results: Any = SimpleNamespace(header=old)
    job: Any = SimpleNamespace(n_done=3, n_rows=9)
    batch_module._report_resumed(job, results, new)
    assert capsys.readouterr().err == (
        "localgen: 3 of 9 lines are already done\n"
        "localgen: resuming with numpy 2.0 (started with 1.0)\n"
    )
    job.n_done = 0
    batch_module._report_resumed(job, results, new)
    assert capsys.readouterr().err == ""


def test_texts_that_were_cut_are_counted(batch: Command) -> None:
    """Each result has is_valid; the summary says how many do not satisfy their constraint."""
    batch.write(
        {"prompt": "the", "choices": ["the cat and the end"], "max_new_tokens": 2},
        {"prompt": "the", "choices": ["cat"], "max_new_tokens": 20},
    )
    done = batch(*QUICK)
    assert done.returncode == 0
    assert "localgen: 2 done, 1 of them cut before the constraint was satisfied\n" in done.stderr
