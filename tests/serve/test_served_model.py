"""Names of models: as they are typed, and as requests give them."""

from __future__ import annotations

from pathlib import Path

import pytest

from localgen.serve.refusals import Refusal
from localgen.serve.served_model import Names, ServedModel, parse_model


@pytest.mark.parametrize(
    ("text", "names", "source"),
    [
        ("smollm2", ("smollm2",), "smollm2"),
        ("org/repo:Q4_K_M", ("org/repo:Q4_K_M",), "org/repo:Q4_K_M"),
        ("/home/me/models/x-Q4_K_M.gguf", ("x-Q4_K_M",), "/home/me/models/x-Q4_K_M.gguf"),
        ("C:\\models\\my model.GGUF", ("my-model",), "C:\\models\\my model.GGUF"),
        ("gpt-4o,small=smollm2", ("gpt-4o", "small"), "smollm2"),
        ("a=b=c.gguf", ("a",), "b=c.gguf"),
    ],
)
def test_what_is_typed(text: str, names: tuple[str, ...], source: str) -> None:
    assert parse_model(text) == (names, source)


def test_a_file_whose_name_has_an_equals_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b.gguf").touch()
    assert parse_model("a=b.gguf") == (("a-b",), "a=b.gguf")


@pytest.mark.parametrize("text", ["=x", "a,,b=x", 'a"b=x', "-a=x", "a="])
def test_what_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be MODEL or NAME=MODEL|names no model"):
        parse_model(text)


def model(*names: str) -> ServedModel:
    return ServedModel(names=names, source=names[0])


ONE, TWO = model("one", "uno"), model("two")


def test_a_model_has_its_name_and_its_aliases() -> None:
    names = Names([ONE, TWO])
    assert names.find("one") is names.find("uno") is ONE
    assert names.find("two") is TWO


def test_an_unknown_name_is_404_and_names_those_that_exist() -> None:
    with pytest.raises(Refusal, match="no model 'gpt-4o' here; this server has 'one', 'uno'") as it:
        Names([ONE]).find("gpt-4o")
    assert (it.value.status, it.value.code, it.value.param) == (404, "model_not_found", "model")


def test_a_server_can_take_any_name_for_its_first_model() -> None:
    names = Names([ONE, TWO], any_name=True)
    assert names.find("gpt-4o") is names.find(None) is ONE
    assert names.find("two") is TWO


def test_no_name_means_the_only_model() -> None:
    assert Names([ONE]).find(None) is ONE
    with pytest.raises(Refusal, match="model is required") as caught:
        Names([ONE, TWO]).find(None)
    assert (caught.value.status, caught.value.param) == (400, "model")


def test_two_models_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two models have the name 'uno'"):
        Names([ONE, model("uno")])
