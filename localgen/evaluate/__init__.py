"""Tasks of lm-evaluation-harness on GGUF files; it needs the extra ``localgen[lm-eval]``.

``LocalgenLM`` is a model of lm-eval: ``lm_eval.simple_evaluate(model=LocalgenLM("smollm2"), …)``.
``evaluate()`` is what ``localgen eval`` runs.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from localgen.errors import EvaluateError

if TYPE_CHECKING:
    from localgen.evaluate.harness_model import LocalgenLM
    from localgen.evaluate.run import evaluate

__all__ = ["LocalgenLM", "evaluate"]


def check_installed() -> None:
    """Raise EvaluateError unless lm-eval is installed."""
    if find_spec("lm_eval") is None:
        raise EvaluateError(
            "tasks need lm-eval, which is not installed. Install it with: "
            "pip install 'localgen[lm-eval]'"
        )


def __getattr__(name: str) -> Any:
    """Import what is asked for: lm-eval takes seconds to load."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    check_installed()
    if name == "evaluate":
        from localgen.evaluate.run import evaluate  # noqa: PLC0415

        return evaluate
    from localgen.evaluate.harness_model import LocalgenLM  # noqa: PLC0415

    return LocalgenLM
