"""What is served: each model is loaded under its own name."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from localgen import LocalModel
from localgen.serve.config import ServeConfig
from localgen.serve.models import make_pool


@pytest.mark.parametrize("isolated", [True, False])
def test_the_log_of_a_worker_has_the_name_that_requests_use(
    isolated: bool, tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two models may be files of the same name."""
    given: dict[str, Any] = {}

    class Loaded:
        def close(self) -> None:
            pass

    def load(source: str, **options: Any) -> Loaded:
        given.update(options, source=source)
        return Loaded()

    async def main() -> None:
        pool = make_pool([f"first,alias={tiny_bpe_path}"], ServeConfig(isolated=isolated), {})
        async with pool.use("alias"):
            pass
        await pool.close()

    monkeypatch.setattr(LocalModel, "from_pretrained", load)
    asyncio.run(main())
    assert given["source"] == str(tiny_bpe_path)
    found = given["isolated"]
    assert found.name == "first" if isolated else found is False
