"""The flags of the server are the options of ServeConfig, each once."""

from __future__ import annotations

import inspect
from dataclasses import fields

from localgen.cli.serve_options import ServeOptions
from localgen.serve.config import ServeConfig


def test_every_option_but_the_keys_has_a_flag_with_its_default() -> None:
    flags = inspect.signature(ServeOptions).parameters
    names = {each.name for each in fields(ServeConfig)}
    assert names - set(flags) == {"api_keys"}
    values = {name: flag.default for name, flag in flags.items()}
    assert ServeOptions(**values).config(32) == ServeConfig(max_running=32)


def test_as_many_texts_run_as_a_model_decodes_together_unless_told_otherwise() -> None:
    assert ServeOptions(max_running=None).config(4).max_running == 4
    assert ServeOptions(max_running=7).config(4).max_running == 7


def test_a_repeated_flag_becomes_a_tuple() -> None:
    config = ServeOptions(allowed_hosts=["A", "b"], cors_origins=["https://c.d"]).config(1)
    assert config.allowed_hosts == ("a", "b")
    assert config.cors_origins == ("https://c.d",)
