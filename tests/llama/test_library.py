"""Functions of ggml that the bindings do not declare, and which CPUs its threads run on."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from localgen import BackendError
from localgen.llama import amx_probe, ggml_devices, library
from localgen.llama.library import c_function, library_folder, openmp_binding
from tests.children import run_python
from tests.conftest import AMX, RunChild


def _real(name: str) -> Path:
    """A library of this build, whatever its file is called here."""
    return next(path for path in library_folder().iterdir() if name in path.name.split("."))


@pytest.fixture
def windows_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Libraries named as on Windows, where llama.dll itself has none of ggml's functions."""
    for name in ("ggml", "ggml-base"):
        shutil.copy(_real(f"lib{name}"), tmp_path / f"{name}.dll")
    library.llama()  # loads ggml, whose libraries need each other by their names here
    alone = SimpleNamespace(_lib=OnlyLlama(tmp_path / "llama.dll"))
    monkeypatch.setattr(library, "llama", lambda: alone)
    library._ggml_libraries.cache_clear()
    yield tmp_path
    library._ggml_libraries.cache_clear()


class OnlyLlama:
    """llama.dll: asking it for a function of ggml.dll is an AttributeError, as in ctypes."""

    def __init__(self, path: Path) -> None:
        self._name = str(path)

    def __getitem__(self, name: str) -> Any:
        raise AttributeError(f"function '{name}' not found")


def test_functions_are_found_where_each_library_has_its_own(windows_build: Path) -> None:
    commit = c_function("ggml_commit", ctypes.c_char_p)()
    assert commit
    devices = ggml_devices.ggml_devices()
    assert any(device.kind == "cpu" for device in devices)


def test_a_function_that_no_library_has() -> None:
    with pytest.raises(BackendError, match="no function ggml_nothing"):
        c_function("ggml_nothing", None)


def test_the_probe_finds_both_libraries_of_windows(windows_build: Path) -> None:
    ggml = amx_probe._Ggml(windows_build)
    assert ggml.ggml_init
    assert ggml.ggml_backend_init_by_type
    assert not hasattr(ggml, "ggml_nothing")


# --- CPUs ---

CPUS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
ALL_CPUS = " ".join(map(str, CPUS))


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, None),
        ({"OMP_PROC_BIND": "true"}, "OMP_PROC_BIND"),
        ({"OMP_PROC_BIND": "spread"}, "OMP_PROC_BIND"),
        ({"OMP_PLACES": "cores"}, "OMP_PLACES"),
        ({"GOMP_CPU_AFFINITY": "0-3"}, "GOMP_CPU_AFFINITY"),
        ({"OMP_PROC_BIND": "False", "OMP_PLACES": "cores"}, None),
        ({"OMP_PLACES": ""}, None),
    ],
)
def test_what_binds_threads(
    variables: dict[str, str], name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"):
        monkeypatch.delenv(each, raising=False)
    for each, value in variables.items():
        monkeypatch.setenv(each, value)
    assert openmp_binding() == name


# Each thread that computes for the first time would be bound as well.
AFFINITY = """
import os, sys, threading
from localgen import LocalModel
from localgen._util.system import usable_cpus
before = os.sched_getaffinity(0)
with LocalModel.from_pretrained(sys.argv[1], n_ctx=512) as model:
    assert os.sched_getaffinity(0) == before, "loaded"
    assert model.config.n_threads in (None, len(before))
    def generate():
        model.complete("the cat", max_new_tokens=4, min_new_tokens=4)
        seen.append(os.sched_getaffinity(0))
    seen = []
    generate()
    thread = threading.Thread(target=generate)
    thread.start()
    thread.join()
    assert seen == [before] * 2, seen
assert usable_cpus() == len(before)
"""


@pytest.mark.skipif(sys.platform != "linux" or len(CPUS) < 2, reason="needs two CPUs of Linux")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("OMP_PROC_BIND", value) for value in ("true", "close", "spread")),
        ("OMP_PLACES", "cores"),
        ("GOMP_CPU_AFFINITY", ALL_CPUS),
    ],
)
def test_the_callers_threads_stay_on_their_cpus(name: str, value: str, tiny_bpe_path: Path) -> None:
    """Regression: the program shared one CPU with all threads that it started from then on."""
    env = {**os.environ, "PYTHONWARNINGS": AMX, name: value}
    done = run_python(AFFINITY, str(tiny_bpe_path), forks=False, warnings=None, env=env)
    assert (done.returncode, done.stderr) == (0, "")


def test_errors_of_llama_cpp_are_kept_where_logging_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """dictConfig disables loggers, logging.disable() all of them: exceptions still say why."""
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)
    monkeypatch.setattr(library.logger, "disabled", True)
    library.log_router.take_errors()
    library.log_router(4, b"no such tensor\n", None)
    assert library.log_router.take_errors() == "no such tensor"


CALLS_ITS_MODEL = """
import logging, sys
from localgen import LocalModel

class Handler(logging.Handler):
    model, said = None, set()
    def emit(self, record):
        if self.model is not None:
            try:
                self.model.complete("a", max_new_tokens=1)
            except RuntimeError as error:
                self.said.add(str(error))

handler = Handler()
logging.basicConfig(level="DEBUG", handlers=[handler])
with LocalModel.from_pretrained(sys.argv[1], n_ctx=64, n_threads=1) as model:
    handler.model = model
    print(len(model.complete("a", max_new_tokens=2, min_new_tokens=2).token_ids), *handler.said)
    handler.model = None
"""


def test_a_log_handler_that_calls_the_model(tiny_bpe_path: Path, run_child: RunChild) -> None:
    """Regression: it waited forever. llama.cpp logs in the thread that makes its context."""
    done = run_child(CALLS_ITS_MODEL, tiny_bpe_path)
    assert done.stdout.startswith("2 the model was called by its own callback"), done.stderr


def test_no_warning_of_files_at_the_end() -> None:
    """Regression: Python printed "Exception ignored" for the two files that llama_cpp opens."""
    code = (
        "from localgen.llama.library import llama\n"
        "llama()\n"
        "from llama_cpp import _utils\n"
        "with _utils.suppress_stdout_stderr(disable=False): print('hidden')\n"
        "print('shown')"
    )
    done = run_python(code, forks=False)
    assert done.stdout == "shown\n"
    assert done.stderr == ""


SPINS = """
import os
from localgen.llama import library
seen = []
import_module = library.importlib.import_module
def imported(name):
    seen.append(os.environ.get("GOMP_SPINCOUNT"))
    return import_module(name)
library.importlib.import_module = imported
library.llama()
print(seen[0], os.environ.get("GOMP_SPINCOUNT"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="GCC's OpenMP, as in Linux's wheels")
@pytest.mark.parametrize(
    ("variables", "printed"),
    [
        ({}, "1000 None"),
        ({"GOMP_SPINCOUNT": "77"}, "77 77"),
        ({"OMP_WAIT_POLICY": "active"}, "None None"),
    ],
)
def test_threads_spin_shortly_unless_the_user_said_how_they_wait(
    variables: dict[str, str], printed: str
) -> None:
    """The variable is set while the library is loaded; child processes do not inherit it."""
    waits = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    env = {name: value for name, value in os.environ.items() if name not in waits}
    done = run_python(SPINS, forks=False, warnings=None, env={**env, **variables})
    assert (done.returncode, done.stdout.strip()) == (0, printed), done.stderr
