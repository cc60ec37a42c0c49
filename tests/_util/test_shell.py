"""Commands to paste: PowerShell's on Windows, a POSIX shell's elsewhere."""

from __future__ import annotations

from localgen._util.shell import command_of, set_variable, unset_variable, with_variables

SETTINGS = ['CMAKE_ARGS="-DGGML_CUDA=on"', 'CXXFLAGS="-fno-dse"']


def test_a_posix_shell() -> None:
    assert with_variables(SETTINGS, "pip", windows=False) == (
        'CMAKE_ARGS="-DGGML_CUDA=on" CXXFLAGS="-fno-dse" pip'
    )
    assert set_variable(SETTINGS[0], windows=False) == 'export CMAKE_ARGS="-DGGML_CUDA=on"'
    assert unset_variable("CMAKE_ARGS", windows=False) == "unset CMAKE_ARGS"


def test_powershell() -> None:
    assert with_variables(SETTINGS, "pip", windows=True) == (
        '$env:CMAKE_ARGS="-DGGML_CUDA=on"; $env:CXXFLAGS="-fno-dse"; pip'
    )
    assert with_variables([], "pip", windows=True) == "pip"
    assert set_variable(SETTINGS[0], windows=True) == '$env:CMAKE_ARGS="-DGGML_CUDA=on"'
    assert unset_variable("CMAKE_ARGS", windows=True) == "Remove-Item Env:CMAKE_ARGS"


def test_words_are_quoted_for_the_shell() -> None:
    words = ["localgen", "a b.gguf", "it's", "F16,Q8_0", "C:\\m.gguf"]
    assert command_of(words, windows=False) == (
        "localgen 'a b.gguf' 'it'\"'\"'s' F16,Q8_0 'C:\\m.gguf'"
    )
    assert command_of(words, windows=True) == ("localgen 'a b.gguf' 'it''s' 'F16,Q8_0' C:\\m.gguf")
