"""The flags of the server, made from ``ServeConfig``, which lists its options once."""

from __future__ import annotations

from typing import Any

from localgen.cli.declared_flags import DeclaredOptions
from localgen.serve.config import ServeConfig


class ServeOptions(DeclaredOptions, of=ServeConfig):
    """The options of ``ServeConfig`` as they were typed."""

    def config(self, n_together: int, **more: Any) -> ServeConfig:
        """Return a ServeConfig with these options and ``more``. Raises ValueError.

        n_together: texts that a model computes together, the default of ``max_running``.
        """
        return ServeConfig(**{"max_running": n_together, **self.given(), **more})
