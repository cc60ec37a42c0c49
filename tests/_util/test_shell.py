"""Commands to paste: PowerShell's on Windows, a POSIX shell's elsewhere."""

from __future__ import annotations

from localgen._util.shell import set_variable, unset_variable, with_variables

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
