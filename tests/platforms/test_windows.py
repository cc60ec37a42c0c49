"""localgen where Windows' Python is imitated: see ``windows/sitecustomize.py``.

What cannot be imitated: the DLLs, PowerShell, Ctrl-C events, and the console's own code page.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CHILD_SECONDS, ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="imitates Windows on Linux")

WINDOWS = Path(__file__).parent / "windows"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(WINDOWS), str(ROOT)]),
    "PYTHONIOENCODING": "cp1252",
    "PYTHONUTF8": "0",
    "PYTHONWARNDEFAULTENCODING": "1",
    "PYTHONWARNINGS": "ignore:the AMX kernels of this build:UserWarning",
}
QUICK = ("--max-new-tokens", "4", "--min-new-tokens", "4", "--n-threads", "1")

Result = subprocess.CompletedProcess[bytes]


def python(*args: object, **options: Any) -> Result:
    """Run Python as on Windows, with bytes for its streams."""
    return subprocess.run(
        [sys.executable, *map(str, args)],
        env=ENVIRONMENT,
        capture_output=True,
        timeout=CHILD_SECONDS,
        check=False,
        **options,
    )


def localgen(*args: object, **options: Any) -> Result:
    """Run ``localgen args…`` as on Windows and return what it did, if it succeeded."""
    done = python("-m", "localgen", *args, **options)
    assert done.returncode == 0, done.stderr.decode("cp1252")
    return done


def test_every_module_is_imported() -> None:
    """No module needs one that only POSIX has; ``__main__`` and the probes run when imported.

    Those of ``evaluate`` and ``jobs.ray`` need extras.
    """
    code = (
        "import importlib, pkgutil, localgen, sys\n"
        "assert sys.modules['fcntl'] is None\n"
        "for each in pkgutil.walk_packages(localgen.__path__, 'localgen.'):\n"
        "    if each.name.endswith('__main__'): continue\n"
        "    if '.evaluate.' in each.name or '.jobs.ray.' in each.name: continue\n"
        "    importlib.import_module(each.name)\n"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr.decode()


def test_the_modules_missing_and_nothing_prepared() -> None:
    """Without the imitation too: ``import localgen`` itself loads none of them."""
    code = (
        "import sys\n"
        "for name in ('resource', 'fcntl', 'termios', 'pwd', 'grp'): sys.modules[name] = None\n"
        "import localgen; assert 'psutil' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_generate(tiny_bpe_path: Path) -> None:
    """A prompt from a pipe is UTF-8 with or without a mark, CRLF or not; the console has cp1252."""
    args = ("generate", "-m", tiny_bpe_path, *QUICK, "--seed", "1")
    for text in ("né ✓\nthe cat".encode(), "né ✓\r\nthe cat".encode("utf-8-sig")):
        done = localgen(*args, "--json", input=text)
        assert json.loads(done.stdout)["prompt"] == "né ✓\nthe cat"
    old = localgen(*args, "--json", input="né\r\n".encode("cp1252"))
    assert json.loads(old.stdout)["prompt"] == "né\n"
    done = localgen(*args, "the cat ✓")
    assert done.stdout.endswith(b"\n")


def test_batch_with_crlf_goes_on_where_it_stopped(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """Lines end in CRLF; the results are locked while they are written, and their ends kept."""
    rows, results = tmp_path / "rows.jsonl", tmp_path / "results.jsonl"
    rows.write_bytes('{"prompt": "a"}\r\n\r\n{"prompt": "né ✓", "id": 7}\r\n'.encode("utf-8-sig"))
    args = ("batch", rows, results, "-m", tiny_bpe_path, *QUICK)
    localgen(*args)
    first = results.read_bytes()
    assert b"\r" not in first
    assert [json.loads(line).get("id") for line in first.splitlines()] == [None, 1, 7]
    rows.write_bytes(rows.read_bytes().replace(b"\r\n", b"\n") + b'{"prompt": "b"}\n')
    done = localgen(*args)
    assert b"2 of 3" in done.stderr
    assert results.read_bytes().startswith(first)


def test_compare(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """Files are quantized and measured in child processes; results are replaced by later ones."""
    text, figures = tmp_path / "text.txt", tmp_path / "figures.json"
    text.write_bytes(b"the cat sat on the mat and ate\r\n" * 60)
    few = ("--n-ctx", "32", "--chunks", "1", "--rounds", "1")
    args = ("compare", tiny_bpe_path, "--levels", "F32,Q8_0", "--text", text, *few, "-o", figures)
    localgen(*args, cwd=tmp_path)
    levels = json.loads(figures.read_text("utf-8"))["levels"]
    assert [level["name"] for level in levels] == ["F32", "Q8_0"]
    for level in levels:
        assert level["error"] is None
        assert level["peak_rss_bytes"] > 10**7
        assert level["cold_load_seconds"] is None


def test_doctor(tiny_bpe_path: Path) -> None:
    """What Windows reports through psutil and its registry, and a speed."""
    done = python("-m", "localgen", "doctor", "-m", tiny_bpe_path, "--json")
    found = json.loads(done.stdout)
    assert found["ok"], done.stderr
    facts = found["facts"]
    assert facts["cpus"]["name"] == "A CPU of Windows"
    assert facts["cpus"]["usable"] >= 1
    assert facts["cpus"]["load"] is None
    assert facts["memory"]["total"] > facts["memory"]["available"] > 0
    assert facts["memory"]["limit"] is None
    assert facts["speed"]["decode_tps"] > 0


def test_quantize_and_a_session_replace_their_files(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """No handle is left open on a file that is written, checked and renamed."""
    for _ in range(2):
        localgen("quantize", tiny_bpe_path, "-t", "Q8_0", "-o", tmp_path)
        args = ("generate", "-m", tiny_bpe_path, "--session", tmp_path / "session", *QUICK)
        localgen(*args, "the cat")
    assert {path.name for path in tmp_path.iterdir()} == {"tiny-bpe-Q8_0.gguf", "session"}


WITHOUT_CONSOLE = """
import os, runpy, sys, traceback
sys.stdin = sys.stdout = sys.stderr = None
for descriptor in range(3):
    os.close(descriptor)
try:
    runpy.run_module("localgen", run_name="__main__", alter_sys=True)
except Exception:
    with open("traceback.txt", "w", encoding="utf-8") as file:
        traceback.print_exc(file=file)
    raise
"""
# Each command's arguments and exit code. A command that prints its result fails without a stdout.
COMMANDS: dict[str, tuple[tuple[object, ...], int]] = {
    "generate": (("generate", "the cat", "-m", "m.gguf", *QUICK), 1),
    "chat": (("chat", "-m", "m.gguf", *QUICK), 1),
    "batch": (("batch", "rows.jsonl", "made", "-m", "m.gguf", *QUICK), 1),  # a row is wrong
    "inspect": (("inspect", "m.gguf"), 1),
    "quantize": (("quantize", "m.gguf", "-t", "Q8_0", "-o", "."), 1),
    "compare": (
        ("compare", "m.gguf", "--levels", "m.gguf", "--n-ctx", "32", "--chunks", "1", "--no-speed",
         "-o", "made"),
        1,
    ),
    "models list": (("models", "list", "."), 1),
    "doctor": (("doctor", "-m", "m.gguf", "--no-probe"), 1),
    "no model": (("generate", "hi", "-m", "no.gguf"), 1),
}  # fmt: skip
MADE = {"batch": "made", "quantize": "m-Q8_0.gguf", "compare": "made"}


@pytest.mark.parametrize("name", COMMANDS)
def test_without_a_console(name: str, tiny_bpe_path: Path, tmp_path: Path) -> None:
    """pythonw has no streams: what is printed is lost; results and the exit code are not."""
    (tmp_path / "m.gguf").symlink_to(tiny_bpe_path)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n{"prompt": 1}\n')
    args, code = COMMANDS[name]
    done = python("-c", WITHOUT_CONSOLE, *args, cwd=tmp_path)
    report = tmp_path / "traceback.txt"
    assert not report.exists(), report.read_text("utf-8")
    assert done.returncode == code
    made = {path.name for path in tmp_path.iterdir()} - {"m.gguf", "rows.jsonl"}
    assert made == ({MADE[name]} if name in MADE else set())
    if name == "batch":
        assert len((tmp_path / "made").read_bytes().splitlines()) == 3
