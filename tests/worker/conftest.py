"""A tiny model in a worker, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from localgen import LocalModel
from localgen.worker.model import IsolatedModel


def load_isolated(path: Path, **options: Any) -> IsolatedModel:
    # Chosen by measurement, flash attention may be another than that of the model beside it.
    fixed: dict[str, Any] = {"n_threads": 1, "flash_attention": "off"}
    given = {"n_ctx": 512, "isolated": True, **fixed, **options}
    model = LocalModel.from_pretrained(path, **given)
    return cast("IsolatedModel", model)


@pytest.fixture(scope="session")
def isolated_session(tiny_bpe_path: Path) -> Iterator[IsolatedModel]:
    with load_isolated(tiny_bpe_path) as model:
        yield model


@pytest.fixture
def isolated(isolated_session: IsolatedModel) -> IsolatedModel:
    """The tiny BPE model, whose worker may have been killed by an earlier test."""
    return isolated_session
