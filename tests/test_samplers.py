"""Names and order of samplers, and what may be set beside them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from localgen import GenerationConfig
from localgen.samplers import NEEDS, SAMPLERS, switches_of


def test_names_of_llama_cpp() -> None:
    """Its list of names, its string, and its other spellings."""
    given = "dry;top-n-sigma;nucleus;typ_p;temp"
    expected = ("dry", "top_n_sigma", "top_p", "typical_p", "temperature")
    assert GenerationConfig(samplers=given).samplers == expected
    assert GenerationConfig(samplers=given.split(";")).samplers == expected
    assert GenerationConfig(samplers=[]).samplers == ()


def test_letters_of_llama_cpp() -> None:
    """Those of its --sampler-seq; a name that consists of such letters stays a name."""
    expected = ("penalties", "dry", "top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "xtc")
    assert GenerationConfig(samplers="edskypmxt").samplers == (*expected, "temperature")
    assert GenerationConfig(samplers="k").samplers == ("top_k",)
    assert GenerationConfig(samplers="").samplers == ()
    for name, own in {"temp": "temperature", "xtc": "xtc", "typ": "typical_p"}.items():
        assert GenerationConfig(samplers=name).samplers == (own,)


@pytest.mark.parametrize(
    ("samplers", "message"),
    [
        (["top_k", "topk"], "hold names of 'penalties', 'dry', .*, got 'topk'"),
        (["infill"], "got 'infill': localgen does not have this one; leave it out"),
        ("kit", "got 'infill'"),
        ("ka", "got 'adaptive_p'"),
        ("kk", "name each sampler once, got 'top_k' twice"),
        ("kz", "got 'kz'"),
        (["kt"], "got 'kt'"),
        ("top_k;mirostat", "got 'mirostat': it replaces the list; pass mirostat=1 or 2 without"),
        ("mirostat", "got 'mirostat': it replaces the list"),
        (["top_k", 3], "got 3"),
        ([["top_k"]], r"got \['top_k'\]"),
        (["typ_p", "typical_p"], "name each sampler once, got 'typical_p' twice"),
        (7, "be a list of names of samplers, got 7"),
        (b"top_k", "be a list of names"),
    ],
)
def test_bad_names(samplers: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^samplers must .*{message}"):
        GenerationConfig(samplers=samplers)


ON: dict[str, Any] = {
    "repetition_penalty": 1.1, "frequency_penalty": 0.1, "presence_penalty": 0.1,
    "dry_multiplier": 0.8, "temperature": 0.7, "dynatemp_range": 0.2, "top_n_sigma": 1.0,
    "top_h": 0.5, "top_k": 40, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.9,
    "epsilon_cutoff": 0.01, "eta_cutoff": 0.01, "xtc_probability": 0.5,
}  # fmt: skip


def test_every_sampler_is_covered() -> None:
    assert {name for sampler in SAMPLERS for name in switches_of(sampler)} == ON.keys()
    names = {each.name for each in dataclasses.fields(GenerationConfig)}
    assert {*ON, *NEEDS, *NEEDS.values()} <= names


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_option_without_its_sampler_is_refused(sampler: str) -> None:
    """It would be ignored. Its default, and a value that is off, may stand there."""
    others = [each for each in SAMPLERS if each != sampler]
    GenerationConfig(samplers=others, top_k=50, min_p=0, top_n_sigma=-1, xtc_threshold=0.2)
    for name in switches_of(sampler):
        GenerationConfig(samplers=SAMPLERS, **{name: ON[name]})
        with pytest.raises(ValueError, match=f"{name}={ON[name]} has no sampler in .*{sampler}'"):
            GenerationConfig(samplers=others, **{name: ON[name]})


@pytest.mark.parametrize("name", ON)
def test_mirostat_replaces_the_filters(name: str) -> None:
    """Penalties, DRY and the temperature come before it; a filter beside it would be ignored."""
    penalties = ("repetition_penalty", "frequency_penalty", "presence_penalty")
    if name in (*penalties, "dry_multiplier", "temperature"):
        assert getattr(GenerationConfig(mirostat=2, **{name: ON[name]}), name) == ON[name]
        return
    with pytest.raises(ValueError, match=f"mirostat=2 replaces the filters, so {name} cannot"):
        GenerationConfig(mirostat=2, **{name: ON[name]})


def test_mirostat_has_no_order() -> None:
    with pytest.raises(ValueError, match="so samplers cannot be used"):
        GenerationConfig(mirostat=1, samplers=["top_k"])
    assert GenerationConfig(mirostat=1, top_k=0, top_p=1.0, min_p=0.0, typical_p=1).mirostat == 1
