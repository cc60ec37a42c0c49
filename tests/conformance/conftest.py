"""The tiny models, one of each kind of memory that llama.cpp keeps of a sequence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localgen import LocalModel
from tests.conformance.compare import KINDS, OPTIONS, Alone


@pytest.fixture(scope="session", params=list(KINDS))
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of one architecture."""
    path = tmp_path_factory.mktemp("conformance") / f"{request.param}.gguf"
    KINDS[request.param](path, n_ctx_train=OPTIONS["n_ctx"])
    return path


@pytest.fixture(scope="session")
def model(path: Path) -> Iterator[LocalModel]:
    """One architecture with room for eight sequences."""
    with LocalModel.from_pretrained(path, max_sequences=8, **OPTIONS) as model:
        yield model


@pytest.fixture(scope="session")
def alone(path: Path) -> Iterator[Alone]:
    """What the same model says of a prompt alone."""
    with LocalModel.from_pretrained(path, max_sequences=1, **OPTIONS) as model:
        yield Alone(model)
