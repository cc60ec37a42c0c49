"""The flags that describe a cluster, and ask for a plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from localgen._util import system
from localgen._util.amounts import bits_per_second_of, n_bytes_of
from localgen._util.format import as_size
from localgen.cli.option_groups import OptionGroup
from localgen.jobs.ray.session import LOCAL
from localgen.jobs.ray.sizing import Node

# No node that can run anything has less: a unit was forgotten.
_LEAST_MEMORY = 10**8


@dataclass(frozen=True, kw_only=True)
class PlanOptions(OptionGroup):
    """Options for a plan of a job on a cluster."""

    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Print how long the job takes on a cluster, and do not run it."
        ),
    ] = False
    nodes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Size the actors for so many nodes instead of those that --ray finds; without "
            "both, --plan is for this machine.",
        ),
    ] = None
    node_cpus: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="Let each of --nodes have so many CPUs.", show_default="as this machine"
        ),
    ] = None
    node_memory: Annotated[
        str | None,
        typer.Option(
            metavar="64GB",
            help="Let each of --nodes have this memory; Ray's object store takes 30 % of it, up to "
            "200 GB, and actors the rest.",
            show_default="as this machine",
        ),
    ] = None
    bandwidth: Annotated[
        str | None,
        typer.Option(
            metavar="1Gbit",
            help="With --plan: let each node fetch the model at this rate.",
            show_default="each has it",
        ),
    ] = None
    speeds: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --plan: use the speeds in this file, which another machine may have "
            "measured, or measure and write them.",
        ),
    ] = None

    def check(self) -> None:
        """Raise BadParameter for options that do not go together, ValueError for their values."""
        if not self.plan and (self.bandwidth or self.speeds):
            raise typer.BadParameter(
                f"--{'bandwidth' if self.bandwidth else 'speeds'} needs --plan"
            )
        if self.nodes is None and (self.node_cpus or self.node_memory):
            given = "node-cpus" if self.node_cpus else "node-memory"
            raise typer.BadParameter(f"--{given} needs --nodes")
        self.described_nodes()
        self.bits_per_second()

    def described_nodes(self) -> list[Node] | None:
        """Return the nodes of the flags; None if they describe none."""
        return None if self.nodes is None else [self._node()] * self.nodes

    def known_nodes(self, address: str | None) -> list[Node] | None:
        """Return the nodes of the flags, or else this machine where the job runs on it.

        address: of the Ray, "local" or None for this machine. None if Ray knows the nodes. Raises
        BadParameter.
        """
        if address == LOCAL and (self.nodes or 1) > 1:
            raise typer.BadParameter(
                f"--nodes {self.nodes} does not work with --ray local: this machine is one node"
            )
        found = self.described_nodes()
        return self.this_machine() if found is None and address in (None, LOCAL) else found

    def this_machine(self) -> list[Node]:
        """Return this machine as the only node."""
        return [self._node()]

    def _node(self) -> Node:
        memory = system.available_memory() if self.node_memory is None else self._given_memory()
        if memory is None:
            raise typer.BadParameter("this system reports no memory; give --node-memory")
        return Node.of_machine(self.node_cpus or system.usable_cpus(), memory)

    def _given_memory(self) -> int:
        given = str(self.node_memory)
        n_bytes = n_bytes_of("node_memory", given)
        if n_bytes < _LEAST_MEMORY:
            unit = f"; did you mean {given.strip()}GB?" if given.strip().isdecimal() else "."
            raise typer.BadParameter(
                f"--node-memory {given} is {as_size(n_bytes)}, too little for any node{unit}"
            )
        return n_bytes

    def bits_per_second(self) -> float | None:
        """Return the bandwidth. Raises ValueError."""
        return None if self.bandwidth is None else bits_per_second_of("bandwidth", self.bandwidth)
