"""The options that the calls of one model start from: ``model.generation_config``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

from localgen.config import GenerationConfig, replace_options
from localgen.option_names import value_when_unset


class CallDefaults:
    """The options of ``GenerationConfig`` that a call takes where it is given no others.

    They are attributes that can be set, and are checked then. None sets an option back to what it
    is by default. Options that only transformers has can be read, and set to a value that changes
    nothing.
    """

    __slots__ = ("_config",)

    _config: GenerationConfig

    def __init__(self, config: GenerationConfig) -> None:
        object.__setattr__(self, "_config", config)

    @property
    def config(self) -> GenerationConfig:
        """All of them, as they are now."""
        return self._config

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_config":  # while it is copied
            raise AttributeError(name)
        return getattr(self._config, name) if name in _NAMES else value_when_unset(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self.update(**{name: value})

    def update(self, **options: Any) -> None:
        """Set several options at once."""
        object.__setattr__(self, "_config", replace_options(self._config, options))

    def to_dict(self) -> dict[str, Any]:
        """Return all options by name."""
        return {name: getattr(self._config, name) for name in _NAMES}

    def to_diff_dict(self) -> dict[str, Any]:
        """Return the options that differ from those of a new ``GenerationConfig``."""
        plain = GenerationConfig()
        options = self.to_dict().items()
        return {name: value for name, value in options if value != getattr(plain, name)}

    def to_json_string(self, use_diff: bool = True) -> str:
        """Return the options as JSON, or with ``use_diff`` those of ``to_diff_dict()``."""
        options = self.to_diff_dict() if use_diff else self.to_dict()
        return json.dumps(options, indent=2, sort_keys=True, default=_as_dict) + "\n"

    def __repr__(self) -> str:
        return f"CallDefaults({self._config!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CallDefaults) and self._config == other._config

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Callable[..., CallDefaults], tuple[GenerationConfig]]:
        return CallDefaults, (self._config,)


def _as_dict(value: Any) -> Any:
    return value.to_dict()  # a WatermarkingConfig


_NAMES = tuple(each.name for each in dataclasses.fields(GenerationConfig))


def is_foreign_config(value: object) -> bool:
    """Return whether a value is a config of another program: an object with ``to_dict()``, such as
    transformers' GenerationConfig."""
    return callable(getattr(value, "to_dict", None)) and not isinstance(value, type)


def is_config(value: object) -> bool:
    """Return whether a value can be a ``generation_config``."""
    return isinstance(value, GenerationConfig) or is_foreign_config(value)


def as_config(given: object, defaults: GenerationConfig) -> GenerationConfig:
    """Return one config of a call; options that another program's leaves unset are ``defaults``'.

    Raises TypeError for anything else, and for options that localgen does not have.
    """
    if isinstance(given, GenerationConfig):
        return given
    if isinstance(given, CallDefaults):
        return given.config
    if not is_foreign_config(given):
        raise TypeError(
            f"generation_config must be a GenerationConfig, or a list of one per prompt, got "
            f"{given!r:.80}; options may also be given by name, as max_new_tokens=9"
        )
    options: dict[str, Any] = given.to_dict()  # type: ignore[attr-defined]
    is_set = {name: value for name, value in options.items() if value is not None}
    return replace_options(defaults, is_set)


Configs = GenerationConfig | CallDefaults | Sequence[GenerationConfig] | None
