"""How tasks of lm-eval are run: each option once. It needs no lm-eval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from localgen._util.checks import check_bool
from localgen._util.option_fields import check_fields, check_str, integer, option, optional


def _check_limit(name: str, value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and (0 < value < 1 or (value >= 1 and value % 1 == 0)):
        return float(value)
    raise ValueError(
        f"{name} must be a whole number of documents or, below 1, a share of them, got "
        f"{value!r:.80}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalOptions:
    """Arguments of ``lm_eval.simple_evaluate`` that ``localgen eval`` has. Raises ValueError."""

    num_fewshot: int | None = option(
        None,
        optional(integer(0)),
        help="Put this many examples before each question.",
        shown="what the task says",
    )
    limit: float | None = option(
        None,
        optional(_check_limit),
        help="Use this many documents of each task; below 1, this share of them.",
        shown="all",
    )
    apply_chat_template: bool = option(
        False, check_bool, help="Ask as a chat, by the model's template."
    )
    system_instruction: str | None = option(
        None, optional(check_str), help="Put this system message first.", metavar="TEXT"
    )
    log_samples: bool = option(
        False, check_bool, help="Include every question and answer in the results."
    )

    def __post_init__(self) -> None:
        check_fields(self)
