"""The limits of a recommendation, which ``compare`` and ``report`` take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from localgen.cli.option_groups import OptionGroup
from localgen.compare.recommend import check_max_kld, parse_bytes


@dataclass(frozen=True, kw_only=True)
class RecommendationLimits(OptionGroup):
    """What the recommended level must keep to. Raises ValueError for wrong ones."""

    budget: Annotated[
        str | None,
        typer.Option(metavar="4GB", help="Recommend a level that needs at most this much memory."),
    ] = None
    max_kld: Annotated[
        float | None, typer.Option(help="Recommend a level with at most this mean KLD.")
    ] = None

    def __post_init__(self) -> None:
        if self.budget is not None:
            parse_bytes(self.budget)  # before the measurements
        check_max_kld(self.max_kld)

    def given(self) -> dict[str, Any]:
        """Return the limits as the library takes them."""
        return {"memory": self.budget, "max_kld": self.max_kld}
