"""The models that a server offers: their names, and what is known of each without loading it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from localgen.serve.refusals import Refusal

# Names go into JSON, logs and metrics; those of the Hub have slashes and colons.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./:@+-]{0,199}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model that requests can name.

    names: the first one stands in answers, the others are aliases. source: what
    ``LocalModel.from_pretrained`` takes. created: seconds since 1970, of its file. n_bytes: of all
    its shards.
    """

    names: tuple[str, ...]
    source: str
    created: int = 0
    n_bytes: int = 0

    @property
    def name(self) -> str:
        """The name that answers have."""
        return self.names[0]


def parse_model(text: str) -> tuple[tuple[str, ...], str]:
    """Return the names and the source of ``SOURCE`` or ``NAME[,NAME…]=SOURCE``.

    Without a name it is the source itself, or a file's name without folder and extension. Raises
    ValueError.
    """
    before, equals, source = text.partition("=")
    if not equals or Path(text).exists():
        return (_own_name(text),), text
    names = tuple(name.strip() for name in before.split(","))
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{text!r:.200} must be MODEL or NAME=MODEL, where a name has letters, digits and "
                f"_ . / : @ + -, got the name {name!r:.80}"
            )
    if not source:
        raise ValueError(f"{text!r:.200} names no model after the =")
    return names, source


def _own_name(source: str) -> str:
    """Return the name of a model that was given none; a path stays out of answers."""
    if not source.lower().endswith(".gguf"):
        return source
    stem = Path(source.replace("\\", "/")).stem
    return re.sub(r"[^A-Za-z0-9_.+-]", "-", stem)[:200] or "model"


def check_names(models: Iterable[tuple[tuple[str, ...], str]]) -> None:
    """Raise ValueError if two of ``parse_model()``'s results share a name."""
    Names(ServedModel(names=names, source=source) for names, source in models)


class Names:
    """Which model a request means. Raises ValueError if two models share a name.

    any_name: a name that no model has means the first one.
    """

    def __init__(self, models: Iterable[ServedModel], *, any_name: bool = False) -> None:
        self.models = tuple(models)
        self._any_name = any_name
        self._by_name: dict[str, ServedModel] = {}
        for model in self.models:
            for name in model.names:
                if self._by_name.setdefault(name, model) is not model:
                    raise ValueError(
                        f"two models have the name {name!r}; give one of them another: NAME=MODEL"
                    )
        if not self.models:
            raise ValueError("a server needs at least one model")

    def find(self, name: str | None) -> ServedModel:
        """Return the model of a name; None means the only one. Raises Refusal, 404 or 400."""
        found = None if name is None else self._by_name.get(name)
        if found is not None:
            return found
        if self._any_name or (name is None and len(self.models) == 1):
            return self.models[0]
        known = ", ".join(repr(each) for each in self._by_name)
        if name is None:
            raise Refusal(
                400, f"model is required: this server has {known}", param="model", code="missing"
            )
        raise Refusal(
            404,
            f"there is no model {name!r:.200} here; this server has {known}",
            param="model",
            code="model_not_found",
        )
