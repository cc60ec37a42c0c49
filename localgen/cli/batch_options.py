"""Which options of ``localgen batch`` go with Ray and a plan, and why the others do not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from localgen.cli.options import is_given

# They have no effect without --ray and --plan.
_ONLY_ON_RAY = ("actors", "actor_cpus", "nodes")
_ONLY_READ_ON_RAY = (".csv", ".parquet", ".gz", ".bz2", ".zst", ".lz4")
_ON_CPUS = (
    "the actors of this command run on CPUs. Use localgen.jobs.ray.generate() with num_gpus for "
    "GPUs"
)
# Parameter → its values that work on Ray, the flag of the others, and why they do not.
_ON_RAY: dict[str, tuple[Callable[[Any], bool], str, str]] = {
    "source": (lambda name: name != "-", "IN -", "the nodes of Ray read it. Give a file or folder"),
    "target": (lambda name: name != "-", "OUT -", "the results are a folder. Give its name"),
    "draft": (
        lambda name: name is None,
        "--draft",
        "actors are sized without a draft model. Leave it out: it changes speed only",
    ),
    "device": (lambda name: name in ("auto", "cpu"), "--device", _ON_CPUS),
    "n_gpu_layers": (lambda n: not n, "--n-gpu-layers", _ON_CPUS),
    "check_memory": (
        lambda is_checked: is_checked,
        "--no-check-memory",
        "Ray places actors by their memory. Say with --nodes and --node-memory what there is",
    ),
    "overwrite": (lambda is_on: not is_on, "--overwrite", "choose another folder"),
}


def check_options_without_ray(context: typer.Context) -> None:
    """Raise BadParameter for an option that needs --ray or --plan."""
    for name in _ONLY_ON_RAY:
        if is_given(name, context):
            raise typer.BadParameter(f"--{name.replace('_', '-')} needs --ray or --plan")


def check_are_files(source: str, target: str) -> None:
    """Raise BadParameter for an input that only a job on Ray reads, and a folder as its output."""
    if Path(source).suffix.lower() in _ONLY_READ_ON_RAY or os.path.isdir(source):
        raise typer.BadParameter(
            f"IN {source} is no file of JSON Lines, which a job without Ray reads. Add --ray local "
            f"to read it (pip install 'localgen[ray]'); OUT is then a folder"
        )
    if target.endswith(("/", os.sep)) or os.path.isdir(target):
        raise typer.BadParameter(
            f"OUT {target} is a folder, and a job without Ray writes a file. Name a file such as "
            f"results.jsonl, or add --ray local (pip install 'localgen[ray]')"
        )


def check_options_on_ray(context: typer.Context) -> None:
    """Raise BadParameter for an option that a job on Ray, or the plan of one, cannot honour."""
    if context.params["profile"] and is_given("profile", context):
        raise _refused("--profile", "it is one machine's. The actors use none")
    for name, (works, flag, reason) in _ON_RAY.items():
        if not works(context.params[name]):
            raise _refused(flag, reason)


def _refused(flag: str, reason: str) -> typer.BadParameter:
    return typer.BadParameter(f"{flag} does not work with --ray and --plan: {reason}")
