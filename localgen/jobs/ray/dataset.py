"""Maps a Ray Dataset over a pool of actors."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Mapping
from typing import Any

from ray.data import ActorPoolStrategy, Dataset

from localgen import hub
from localgen._util.checks import check_bool, check_int
from localgen.config import GenerationConfig, ModelConfig, replace_options
from localgen.gguf.fingerprint import fingerprint
from localgen.jobs.ray.actor import GenerateActor

# Batches are small, so that one long text holds back few rows; each costs Ray some milliseconds.
_BATCH_SIZE = 16
_CALLS = "max_concurrent_calls_per_actor"


def generate(
    dataset: Dataset,
    model: str | os.PathLike[str],
    *,
    n_actors: int | tuple[int, int] = 1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: int | None = None,
    batch_size: int = _BATCH_SIZE,
    preserve_order: bool = False,
    seed: int = 0,
    load_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Dataset:
    """Return a dataset with a text for each row; like all datasets it is computed when it is read.

    dataset: has a column ``prompt``, ``messages`` or ``prompt_token_ids``, and may have ``id``,
    ``sampling_params`` (a dict with vLLM's names) and any field of a job's line. Null is not given.
    model: as for ``LocalModel.from_pretrained``. It must have the same content on all nodes.
    n_actors: how many, or the fewest and the most. num_cpus, num_gpus, memory (bytes): of each
    actor; without num_cpus, Ray's own default. batch_size: rows that Ray moves together; the rows
    of several batches run together in an actor. preserve_order: return the rows in the order of
    ``dataset``, at the cost of waiting for the slowest.
    seed: rows without one of their own get one derived from it and from their id, or from their
    content where they have no id: their draws depend neither on the actors nor on the order.
    load_options: the fields of ``ModelConfig``. options: those of ``GenerationConfig``, for rows
    that do not set them.

    The columns of ``dataset`` stay. New are ``generated_text``, ``generated_tokens``,
    ``num_input_tokens``, ``num_generated_tokens``, ``finish_reason``, ``reasoning``, ``tool_calls``
    (JSON text) and ``error``, which is null unless the row failed; the others are then empty.
    Raises ValueError or TypeError for wrong options, and what resolving a name raises.
    """
    check_int("batch_size", batch_size, 1)
    check_bool("preserve_order", preserve_order)
    replace_options(GenerationConfig(), options)
    loading = replace_options(ModelConfig(), load_options or {})
    path = hub.resolve(model)
    if preserve_order:
        dataset.context.execution_options.preserve_order = True
    pool, remote_args = _pool(n_actors, math.ceil(2 * loading.max_sequences / batch_size))
    return dataset.map_batches(
        GenerateActor,
        batch_size=batch_size,
        batch_format="numpy",
        compute=pool,
        fn_constructor_args=(model,),
        fn_constructor_kwargs={
            "seed": check_int("seed", seed, 0),
            "fingerprint": fingerprint(path),
            "load_options": dict(load_options or {}),
            **options,
        },
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        memory=memory,
        **remote_args,
    )


def _pool(
    n_actors: int | tuple[int, int], n_batches: int
) -> tuple[ActorPoolStrategy, dict[str, Any]]:
    """Return a pool whose actors get ``n_batches`` batches at a time, and Ray's other arguments for
    it: so many that rows of the next batch are there when those of one end."""
    fewest, most = n_actors if isinstance(n_actors, tuple) else (n_actors, n_actors)
    n_batches = max(2, n_batches)
    sizes: dict[str, Any] = {
        "min_size": check_int("n_actors", fewest, 1),
        "max_size": check_int("n_actors", most, fewest),
        "max_tasks_in_flight_per_actor": 2 * n_batches,
    }
    if _CALLS not in inspect.signature(ActorPoolStrategy).parameters:  # before Ray 2.60
        return ActorPoolStrategy(**sizes), {"max_concurrency": n_batches}
    return ActorPoolStrategy(**sizes, **{_CALLS: n_batches}), {}
