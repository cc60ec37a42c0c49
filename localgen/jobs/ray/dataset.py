"""Maps a Ray Dataset over a pool of actors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ray.data import Dataset

from localgen import hub
from localgen._util.checks import check_bool, check_int
from localgen.config import GenerationConfig, replace_options
from localgen.gguf.fingerprint import fingerprint
from localgen.jobs.ray.actor import GenerateActor
from localgen.jobs.ray.pool import BATCH_SIZE, BATCHES_PER_BLOCK, actor_pool


def generate(
    dataset: Dataset,
    model: str | os.PathLike[str],
    *,
    n_actors: int | tuple[int, int] = 1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: int | None = None,
    batch_size: int = BATCH_SIZE,
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
    path = hub.resolve(model)
    if preserve_order:
        dataset.context.execution_options.preserve_order = True
    pool, remote_args = actor_pool(n_actors, load_options, batch_size)
    blocks = dataset.repartition(target_num_rows_per_block=BATCHES_PER_BLOCK * batch_size)
    return blocks.map_batches(
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
