"""The flags that constrain a text: checked before a model loads, and what is said of a cut text."""

from __future__ import annotations

import sys

from localgen._util.format import counted
from localgen.cli.flag_names import flag_of, given_once
from localgen.completion import Completion
from localgen.config import GenerationConfig


def check_flags(config: GenerationConfig) -> None:
    """Raise ValueError if no model can enforce the constraint; say if it leaves one text alone."""
    if config.constraint is None:
        return
    # Imported here: only constraints need llguidance.
    from localgen.constraints.precheck import check_constraint  # noqa: PLC0415

    name, value = config.constraint
    check_constraint(name, value)
    if name == "choices" and len(value) == 1:
        said = given_once("--choice", value[0], f"the text can only be {value[0]!r:.80}")
        print(f"localgen: {said}", file=sys.stderr)


def cut_message(completion: Completion, config: GenerationConfig) -> str | None:
    """Return what to say of a text that does not satisfy its constraint; None for any other."""
    if config.constraint is None or completion.is_valid:
        return None
    tokens = counted(completion.stats.n_new, "token")
    where = {
        "length": f"after {tokens} (--max-new-tokens or --n-ctx)",
        "time": f"after {tokens} (--max-time)",
        "stop": f"before {completion.stop_match!r:.80} (--stop)",
    }.get(completion.finish_reason, f"after {tokens}")
    flag = flag_of(config.constraint[0])
    return f"the text was cut {where}, so it does not satisfy {flag}"
