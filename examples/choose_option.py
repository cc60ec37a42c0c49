"""Let a model choose among given options by their log-probabilities; nothing is generated.

The answer is always one of the options, and comes with a probability for each.

    python examples/choose_option.py --model smollm2 "The capital of Peru is" Lima Paris Tokyo
"""

from __future__ import annotations

import argparse
from itertools import takewhile

import numpy as np

from localgen import LocalModel

PROMPT = "The capital of Peru is"
OPTIONS = ["Lima", "Paris", "Tokyo"]


def choose(
    model: LocalModel, prompt: str, options: list[str], end: str = "\n"
) -> list[tuple[str, float]]:
    """Return (option, probability), the likeliest first; the probabilities add up to 1.

    end: text that finishes an option, so that "New" is not preferred to "New York" only because it
    is shorter.
    """
    rows = [model.tokenizer.encode(f"{prompt} {option}{end}") for option in options]
    # Compare the token ids: a token may span the boundary between the prompt and an option.
    n_shared = len(list(takewhile(lambda ids: len(set(ids)) == 1, zip(*rows, strict=False))))
    # score() has an entry for each token but the first.
    start = max(0, n_shared - 1)
    totals = np.array([model.score(row)[start:].sum(dtype=np.float64) for row in rows])
    weights = np.exp(totals - totals.max())
    probabilities = weights / weights.sum()
    return [(options[index], float(probabilities[index])) for index in np.argsort(-totals)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("prompt", nargs="?", default=PROMPT, help=f"(default: {PROMPT!r})")
    parser.add_argument("options", nargs="*", help=f"at least two (default: {', '.join(OPTIONS)})")
    parser.add_argument("--model", default="smollm2", help="a name, or the path of a GGUF file")
    args = parser.parse_args()
    options = list(dict.fromkeys(args.options or OPTIONS))
    if len(options) < 2:
        parser.error("give at least two different options")
    with LocalModel.from_pretrained(args.model) as model:
        for option, probability in choose(model, args.prompt, options):
            print(f"{probability:6.1%}  {option}")


if __name__ == "__main__":
    main()
