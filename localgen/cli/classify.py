"""``localgen classify``: label the lines of a file by the probability of each label."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from localgen._util.console import dump_json, input_lines
from localgen.cli.files import check_input, read_file, read_input
from localgen.cli.flag_names import given_once
from localgen.cli.option_groups import with_options
from localgen.cli.options import (
    LoadingOptions,
    MaxSequences,
    ModelName,
    SplitSpecialTokens,
    UseProfile,
    model_or_default,
)
from localgen.config import ModelConfig
from localgen.generation.choice_tokens import (
    LABEL_TEMPLATE,
    checked_texts,
    prompts_from_template,
)
from localgen.generation.choosing import NORMALIZATIONS, ChoiceScores, check_normalization
from localgen.model import LocalModel

_MODEL = ModelConfig()
# Lines that are labelled together; their results are written before the next ones begin.
_LINES_AT_ONCE = 64


@with_options
def classify(
    *,
    source: Annotated[
        str, typer.Argument(metavar="IN", help="Read one text per line; - is stdin.")
    ],
    label: Annotated[
        list[str], typer.Option("--label", metavar="TEXT", help="Add a label; can be repeated.")
    ],
    model: ModelName = None,
    template: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Ask with this text, in which {text} stands for the line and {label}, after it, "
            r"for the label; \n is a line feed.",
            show_default=LABEL_TEMPLATE.replace("\n", r"\n"),
        ),
    ] = LABEL_TEMPLATE,
    instruction: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Put the text of FILE before each template: a task, or examples."
        ),
    ] = None,
    normalization: Annotated[
        str,
        typer.Option(
            help=f"Compare labels by this score: {', '.join(NORMALIZATIONS[:-1])} or "
            f"{NORMALIZATIONS[-1]}."
        ),
    ] = "sum",
    split_special_tokens: SplitSpecialTokens = False,
    loading: LoadingOptions,
    profile: UseProfile = True,
    max_sequences: MaxSequences = _MODEL.max_sequences,
) -> None:
    """Print the probability of each label for every line of IN.

    Each line that is not blank gives one JSON object: "text", the best "label", and the
    "probabilities" of all labels, which add up to 1. Nothing is sampled.
    """
    template = template.replace(r"\n", "\n")
    # Before anything is read or loaded: options may be wrong.
    prompts_from_template(template, "", [], _several(checked_texts("labels", label)))
    check_normalization(normalization)
    loading.config(max_sequences=max_sequences)
    before = "" if instruction is None else read_file("--instruction", instruction).strip("\n")
    check_input(source, "texts, one per line")
    lines = _lines(source)
    with LocalModel.from_pretrained(
        model_or_default(model),
        use_profile=profile,
        max_sequences=max_sequences,
        **loading.given(),
    ) as loaded:
        n_done = 0
        while texts := [text for text, _ in zip(lines, range(_LINES_AT_ONCE), strict=False)]:
            found = loaded.classify(
                texts,
                label,
                template=template,
                instruction=before,
                normalization=check_normalization(normalization),
                split_special_tokens=split_special_tokens,
            )
            for text, scores in zip(texts, found, strict=True):
                print(dump_json(_as_dict(text, scores), sys.stdout), flush=True)
            n_done += len(texts)
    if not n_done:
        name = "stdin" if source == "-" else source
        print(f"localgen: {name} has no line with text, so nothing was labelled", file=sys.stderr)


def _several(labels: list[str]) -> list[str]:
    """Return ``labels``. Raises ValueError for a single one, whose probability is always 1."""
    if len(labels) > 1:
        return labels
    result = f"{labels[0]!r:.80} would always have the probability 1"
    raise ValueError(given_once("--label", labels[0], result))


def _lines(source: str) -> Iterator[str]:
    """Return the lines that are not blank. Raises OSError, and ValueError for other than text."""
    given = input_lines(sys.stdin) if source == "-" else iter(read_input(Path(source)).split("\n"))
    return (line.strip() for line in given if line.strip())


def _as_dict(text: str, scores: ChoiceScores) -> dict[str, Any]:
    return {"text": text, "label": scores.text, "probabilities": scores.probabilities}
