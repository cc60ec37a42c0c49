"""Maps a Ray Dataset over a pool of actors."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow
from ray.data import Dataset
from ray.util.client import ray as client

from localgen import hub
from localgen._util.checks import check_bool, check_float, check_int
from localgen._util.format import as_size, counted
from localgen.config import GenerationConfig, replace_options
from localgen.errors import ActorsDoNotFitError, RayJobError
from localgen.gguf.fingerprint import fingerprint
from localgen.jobs.ray.actor import GenerateActor
from localgen.jobs.ray.cluster import n_held, nodes_of_cluster
from localgen.jobs.ray.columns import rows_of
from localgen.jobs.ray.errors import NO_CLIENT
from localgen.jobs.ray.pool import BATCH_SIZE, BATCHES_PER_BLOCK, actor_pool, cpus_to_ask
from localgen.jobs.ray.prefixes import beginning_of
from localgen.jobs.ray.sizing import described

# Of so many rows at a time, those that begin alike are put together.
WINDOW_ROWS = 2048
# What Ray Data gives an actor for which num_cpus is None.
_RAYS_CPUS = 1.0

RowFunction = Callable[[dict[str, Any]], dict[str, Any]]


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
    preprocess: RowFunction | None = None,
    postprocess: RowFunction | None = None,
    seed: int = 0,
    load_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Dataset:
    """Return a dataset with a text for each row; like all datasets it is computed when it is read.

    dataset: has a column ``prompt``, ``messages`` or ``prompt_token_ids``, and may have ``id``,
    ``sampling_params`` (a dict with vLLM's names) and any field of a job's line. Null is not given.
    Of a row with both, the messages count, as in ``ray.data.llm``.
    model: as for ``LocalModel.from_pretrained``. It must have the same content on all nodes.
    n_actors: how many, or the fewest and the most. num_cpus, num_gpus, memory (bytes): of each
    actor; num_cpus is 1 without it, as for Ray. If actors would hold all CPUs of the cluster, Ray
    is asked for less, since it needs one to move rows; models keep their threads. Without num_gpus,
    models compute on the CPU, unless ``load_options`` name a device or layers for a GPU.
    batch_size: rows that Ray moves together; the rows of several batches run together in an actor.
    preserve_order: return the rows in the order of ``dataset``, at the cost of waiting for the
    slowest; otherwise, of some thousand rows at a time, those that begin alike go to one actor.
    preprocess, postprocess: as for ``ray.data.llm.build_processor``. The first adds the columns
    that it returns to a row, before its text is generated; the second gets the row with its
    results and returns what becomes of it. It does not get rows that failed.
    seed: rows without one of their own get one derived from it and from their id, or from their
    content where they have no id: their draws depend neither on the actors nor on the order.
    load_options: the fields of ``ModelConfig``. options: those of ``GenerationConfig``, for rows
    that do not set them.

    The columns of ``dataset`` stay. New are ``generated_text``, ``generated_tokens``,
    ``num_input_tokens``, ``num_generated_tokens``, ``finish_reason``, ``generated_reasoning``,
    ``tool_calls`` and ``generated_logprobs`` (both JSON text) and ``error``, which is null unless
    the row failed; the others are then empty.
    Raises ValueError or TypeError for wrong options, ActorsDoNotFitError if the cluster has no room
    for the (fewest) actors, RayJobError if this process has joined a Ray through Ray Client, and
    what resolving a name raises.
    """
    if client.is_connected():
        raise RayJobError(NO_CLIENT)
    check_int("batch_size", batch_size, 1)
    check_bool("preserve_order", preserve_order)
    if "concurrency" in options:
        raise TypeError("unknown option 'concurrency'; n_actors is how many actors there are")
    replace_options(GenerationConfig(), options)
    path = hub.resolve(model)
    if preserve_order:
        dataset.context.execution_options.preserve_order = True
    load_options = _with_resources(load_options or {}, num_cpus, num_gpus)
    pool, remote_args = actor_pool(n_actors, load_options, batch_size)
    num_cpus = _asked(n_actors, num_cpus, num_gpus, memory)
    dataset = dataset.map(_adding(preprocess)) if preprocess else dataset
    if not preserve_order:
        dataset = dataset.map_batches(group, batch_size=WINDOW_ROWS, batch_format="pyarrow")
    blocks = dataset.repartition(target_num_rows_per_block=BATCHES_PER_BLOCK * batch_size)
    results = blocks.map_batches(
        GenerateActor,
        batch_size=batch_size,
        batch_format="pyarrow",  # NumPy has no null
        compute=pool,
        fn_constructor_args=(hub.absolute_name(model),),
        fn_constructor_kwargs={
            "seed": check_int("seed", seed, 0),
            "fingerprint": fingerprint(path),
            "load_options": load_options,
            **options,
        },
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        memory=memory,
        **remote_args,
    )
    return results.map(_unless_failed(postprocess)) if postprocess else results


def _with_resources(
    load_options: Mapping[str, Any], num_cpus: float | None, num_gpus: float | None
) -> dict[str, Any]:
    """Return load options with those that follow from the resources of an actor, unless given."""
    found: dict[str, Any] = {}
    if not num_gpus and "n_gpu_layers" not in load_options:
        found["device"] = "cpu"
    if num_cpus is not None:
        check_float("num_cpus", num_cpus, "not negative", 0, math.inf)
        found["n_threads"] = max(1, int(num_cpus))
    return {**found, **load_options}


def _asked(
    n_actors: int | tuple[int, int],
    num_cpus: float | None,
    num_gpus: float | None,
    memory: int | None,
) -> float | None:
    """Return the CPUs to ask Ray for, for each actor; None is its default.

    Raises ActorsDoNotFitError if the nodes hold too few: Ray would wait for ever.
    """
    cpus = _RAYS_CPUS if num_cpus is None else num_cpus
    fewest, most = n_actors if isinstance(n_actors, tuple) else (n_actors, n_actors)
    held = n_held({"CPU": cpus, "GPU": num_gpus or 0, "memory": memory or 0})
    nodes = nodes_of_cluster()
    if held < fewest:
        more = f", {num_gpus or 0:g} GPUs" * bool(num_gpus) + f", {as_size(memory or 0)}" * bool(
            memory
        )
        raise ActorsDoNotFitError(
            f"generate() needs {counted(fewest, 'actor')}, and there is room for {held}: each "
            f"takes {cpus:g} CPUs{more}, and the cluster has {described(nodes) or 'no nodes'}. Use "
            f"a smaller n_actors or num_cpus, or more nodes. On a cluster that grows, n_actors is "
            f"the fewest, which must fit now, and the most.",
            fewest,
            int(held),
        )
    asked = cpus_to_ask(cpus, int(min(most, held)), nodes)
    return num_cpus if asked == cpus else asked


def group(batch: pyarrow.Table) -> pyarrow.Table:
    """Return a batch whose rows are put together where their prompts begin alike."""
    beginnings = [beginning_of(row) for row in rows_of(batch)]
    order = sorted(range(len(beginnings)), key=beginnings.__getitem__)
    return batch.take(pyarrow.array(order, pyarrow.int64()))


def _adding(preprocess: RowFunction) -> RowFunction:
    return lambda row: {**row, **preprocess(row)}


def _unless_failed(postprocess: RowFunction) -> RowFunction:
    return lambda row: postprocess(row) if row["error"] is None else row
