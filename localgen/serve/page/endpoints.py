"""Serves the pages; all that they show they get from the API, as any other client does."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from localgen.serve.page.assemble import Page, assemble

PAGES = {"/": "chat", "/compare": "compare"}


def page_routes() -> list[Route]:
    """Return the routes of the pages. They need no API key: pages hold nothing of a user's."""
    return [_route(path, assemble(name)) for path, name in PAGES.items()]


def _route(path: str, page: Page) -> Route:
    headers = {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": page.policy,
        "Cross-Origin-Opener-Policy": "same-origin",
        "ETag": page.etag,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }

    async def get(request: Request) -> Response:
        if request.headers.get("If-None-Match") == page.etag:
            return Response(status_code=304, headers=headers)
        return Response(page.html, headers=headers, media_type="text/html")

    return Route(path, get, methods=["GET"], include_in_schema=False)
