"""The routes of the pages: what browsers must know about them, and answers to repeated visits."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette

from localgen.serve.page.endpoints import PAGES, page_routes


def _get(path: str, **headers: str) -> httpx.Response:
    import asyncio

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(Starlette(routes=[*page_routes()]))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(get())


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_the_headers_that_keep_it_apart(path: str) -> None:
    answer = _get(path)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"


def test_a_page_is_sent_again_only_if_it_changed() -> None:
    tag = _get("/").headers["ETag"]
    same = _get("/", **{"If-None-Match": tag})
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", tag)
    assert _get("/", **{"If-None-Match": '"another"'}).status_code == 200
