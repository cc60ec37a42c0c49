"""``localgen models``: list, fetch and remove models."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from localgen import hub
from localgen._util.format import as_size
from localgen.cli.tables import print_table
from localgen.hub import inventory
from localgen.hub.catalog import catalog

_DAY = 86400

models = typer.Typer(
    name="models",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    help="List, fetch and remove models.",
)

Names = Annotated[
    list[str], typer.Argument(metavar="NAME", help="Name models: org/name[:LEVEL] or an alias.")
]


@models.command("list")
def list_models(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="FOLDER", help="Search these folders too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the models in the Hub's cache, in packages and in folders."""
    copies = inventory.on_this_machine(folders or ())
    if as_json:
        print(json.dumps([asdict(copy) for copy in copies], default=str))
        return
    if not copies:
        print(
            "localgen: no models found. Fetch one with: localgen models pull NAME", file=sys.stderr
        )
        return
    rows = [
        (copy.name, copy.level or "-", as_size(copy.n_bytes), _age(copy.last_used))
        for copy in copies
    ]
    print_table(("model", "level", "size", "used"), rows, right=("size",))


@models.command()
def aliases(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the aliases and the models they stand for."""
    entries = catalog()
    if as_json:
        print(json.dumps({alias: asdict(entry) for alias, entry in entries.items()}))
        return
    rows = [
        (alias, entry.repo or entry.install or "", entry.license, entry.description)
        for alias, entry in entries.items()
    ]
    print_table(("alias", "from", "licence", "model"), rows, wrapped=("licence", "model"))


@models.command()
def pull(names: Names) -> None:
    """Fetch models from the Hub and print their paths."""
    for name in names:
        print(hub.resolve(name), flush=True)


@models.command()
def path(names: Names) -> None:
    """Print the paths of models that are on this machine."""
    for name in names:
        print(hub.resolve(name, local_files_only=True))


@models.command(short_help="Remove models from the Hub's cache.")
def rm(
    names: Names,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Remove without asking.")] = False,
) -> None:
    """Remove models from the Hub's cache; "org/name" removes all of its GGUF files."""
    for name in names:
        copies, n_bytes = inventory.matching(name)
        for copy in copies:
            print(f"{copy.name}  {as_size(copy.n_bytes)}", file=sys.stderr)
        if not yes and not typer.confirm(f"Remove and free {as_size(n_bytes)}?", err=True):
            raise typer.Exit(1)
        inventory.remove(name)
        print(f"localgen: {as_size(n_bytes)} freed", file=sys.stderr)


def _age(then: float) -> str:
    """Return how long ago a time was, in days."""
    days = max(0.0, time.time() - then) / _DAY
    if days < 1:
        return "today"
    return f"{days:.0f} days ago" if days >= 1.5 else "yesterday"
