"""Options of a call as the worker gets them: nothing of the program's own classes is sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from localgen.completion import Completion
from localgen.config import GenerationConfig
from localgen.constraints.classes import schema_of
from localgen.generation.defaults import as_config

Parse = Callable[[str], Any]


class SentOptions:
    """The options of a call that generates text, and what is left to do with its completions.

    given: as the caller gave them. defaults: what other programs' configs leave unset. Raises
    ValueError for a class that has no schema, and TypeError for what is no config.
    """

    def __init__(self, given: Mapping[str, Any], defaults: GenerationConfig) -> None:
        options = dict(given)
        config = options.get("generation_config")
        several = isinstance(config, Sequence) and not isinstance(config, str)
        configs: list[GenerationConfig] = [defaults]
        if config is not None:
            configs = [as_config(each, defaults) for each in (config if several else [config])]
        pairs = [_schema(each.json_schema) for each in configs]
        if options.get("json_schema") is not None:
            pairs = [_schema(options["json_schema"])] * len(configs)
            options["json_schema"] = pairs[0][0]
        elif config is not None:
            configs = [
                each if parse is None else replace(each, json_schema=schema)
                for each, (schema, parse) in zip(configs, pairs, strict=True)
            ]
        if config is not None:
            options["generation_config"] = configs if several else configs[0]
        self.options = options
        self._parses: list[Parse | None] = [parse for _, parse in pairs]
        n_rows = options.get("num_return_sequences")
        self._counts = [n_rows or each.num_return_sequences for each in configs]

    def finished(self, index: int, completion: Completion) -> Completion:
        """Return a completion with ``parsed`` as an object of the caller's class."""
        parse = self._parse_of(index)
        if parse is None or not completion.is_valid:
            return completion
        try:
            return replace(completion, parsed=parse(json.dumps(completion.parsed)))
        except ValueError:  # a class may ask for more than its schema says
            return replace(completion, parsed=None, is_valid=False)

    def all_finished(self, completions: list[Completion]) -> list[Completion]:
        """Return completions with ``parsed`` as objects of the caller's classes."""
        return [self.finished(index, each) for index, each in enumerate(completions)]

    def _parse_of(self, index: int) -> Parse | None:
        if len(self._parses) == 1:
            return self._parses[0]
        for parse, n_rows in zip(self._parses, self._counts, strict=True):
            if index < n_rows:
                return parse
            index -= n_rows
        return None


def sent_defaults(config: GenerationConfig) -> GenerationConfig:
    """Return the options that calls start from as the worker gets them."""
    schema, parse = _schema(config.json_schema)
    return config if parse is None else replace(config, json_schema=schema)


def _schema(given: Any) -> tuple[Any, Parse | None]:
    """Return a schema without classes, and what makes an object of the caller's class."""
    if given is None or isinstance(given, str | Mapping):
        return given, None
    return schema_of(given)
