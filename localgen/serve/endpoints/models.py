"""/v1/models and /v1/models/{id}: the models that requests can name."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from localgen.serve.pool import ModelPool
from localgen.serve.served_model import ServedModel


async def list_models(request: Request) -> JSONResponse:
    """Answer with every model, under its name and under each of its aliases."""
    pool: ModelPool = request.app.state.pool
    models = [described(pool, model, name) for model in pool.names.models for name in model.names]
    return JSONResponse({"object": "list", "data": models})


async def get_model(request: Request) -> JSONResponse:
    """Answer with one model. Raises Refusal, 404."""
    pool: ModelPool = request.app.state.pool
    name = str(request.path_params["id"])
    model = pool.find(name)
    return JSONResponse(described(pool, model, name if name in model.names else model.name))


def described(pool: ModelPool, model: ServedModel, name: str) -> dict[str, Any]:
    """Return OpenAI's object of a model, with what is known of it if it is in memory.

    ``root`` is the model's own name, which an alias stands for. ``status`` and ``max_model_len``
    are further fields, as other servers have them.
    """
    found = {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": "localgen",
        "root": model.name,
        "parent": None if name == model.name else model.name,
        "status": pool.state(model),
    }
    loaded = pool.loaded(model)
    if loaded is not None:
        found["max_model_len"] = loaded.config.n_ctx
    return found
