"""/health and /metrics: for those who watch the server."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from localgen.serve.metrics import CONTENT_TYPE


async def health(request: Request) -> JSONResponse:
    """Answer 200 if requests are served, 503 while a model loads or the server stops."""
    state = request.app.state
    if state.admission.is_stopping:
        return JSONResponse({"status": "stopping"}, 503)
    if not state.pool.is_ready:
        progress = round(state.pool.progress(state.pool.names.models[0]), 3)
        return JSONResponse({"status": "loading", "progress": progress}, 503)
    return JSONResponse({"status": "ok"})


async def write_metrics(request: Request) -> Response:
    """Answer with the metrics, in Prometheus's text format."""
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE)
