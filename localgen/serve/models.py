"""What is served: names as they were typed → a pool that loads the models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from localgen import hub
from localgen.gguf.gate import check_model
from localgen.serve.config import ServeConfig
from localgen.serve.pool import ModelPool
from localgen.serve.room import Room
from localgen.serve.served_model import ServedModel, parse_model
from localgen.worker.config import WorkerConfig


def make_pool(
    texts: Iterable[str],
    config: ServeConfig,
    options: Mapping[str, Any],
    *,
    use_profile: bool = True,
) -> ModelPool:
    """Return a pool of models, none of which is loaded yet.

    texts: ``MODEL`` or ``NAME=MODEL``. options: of loading, for all of them. Models on the Hub are
    downloaded now. Raises ValueError for a name, and ModelFileError for a model.
    """
    from localgen.model import LocalModel  # noqa: PLC0415  # loads NumPy

    def load(model: ServedModel, note: Callable[[float], object]) -> LocalModel:
        return LocalModel.from_pretrained(
            model.source,
            progress=note,
            use_profile=use_profile,
            isolated=config.isolated and WorkerConfig(name=model.name),
            **options,
        )

    return ModelPool(
        [_found(names, source) for names, source in map(parse_model, texts)],
        load,
        room=Room() if options.get("check_memory", True) else None,
        idle_unload=config.idle_unload,
        max_loaded=config.max_loaded,
        any_name=config.any_model_name,
    )


def _found(names: tuple[str, ...], source: str) -> ServedModel:
    """Return a model whose file is there and passes the check."""
    path = hub.resolve(source)
    file = check_model(path)
    return ServedModel(
        names=names,
        source=str(path),
        created=int(path.stat().st_mtime),
        n_bytes=sum(shard.size for shard in file.shards),
    )
