"""Label every row of a CSV file: many short prompts in one batch.

The prompts start alike, so their common prefix is computed once. As many rows as fit run together,
and a waiting one starts the moment another ends.

    python examples/label_csv.py --model smollm2 reviews.csv labelled.csv --column text

For jobs of hours that have to survive a kill, see `localgen batch`.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from localgen import LocalModel

LABELS = ("positive", "negative")
MAX_TEXT_TOKENS = 256
# A few examples make small models keep to the format. Replace them and LABELS with your own.
PROMPT = """\
Label each review as positive or negative.

Review: Great value, and it arrived early. I love it.
Label: positive

Review: It broke after one day and nobody answers my mails.
Label: negative

Review: {text}
Label:"""


def prompt_for(model: LocalModel, text: str) -> str:
    """Return the prompt for one text, which is put on one line and cut if it is very long."""
    ids = model.tokenizer.encode(" ".join(text.split()), add_special_tokens=False)
    return PROMPT.format(text=model.tokenizer.decode(ids[:MAX_TEXT_TOKENS]))


def label(model: LocalModel, texts: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield (index, label) as each text is done; the label is empty if the model wrote no label."""
    prompts = [prompt_for(model, text) for text in texts]
    results = model.complete_iter(prompts, max_new_tokens=8, stop_strings=["\n"], do_sample=False)
    for index, done in results:
        answer = done.text.strip().lower()
        yield index, answer if answer in LABELS else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("input", type=Path, help="a CSV file with a header")
    parser.add_argument("output", type=Path, help="gets the same rows and a column 'label'")
    parser.add_argument("--column", default="text", help="the column to label (default: text)")
    parser.add_argument("--model", default="smollm2", help="a name, or the path of a GGUF file")
    args = parser.parse_args()
    with args.input.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    columns = list(reader.fieldnames or ())
    if args.column not in columns:
        parser.error(f"{args.input} has no column {args.column!r}; it has {', '.join(columns)}")

    filled = [row for row in rows if (row[args.column] or "").strip()]
    with LocalModel.from_pretrained(args.model, n_ctx=1024) as model:
        for index, found in label(model, [row[args.column] for row in filled]):
            filled[index]["label"] = found

    with args.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys([*columns, "label"])))
        writer.writeheader()
        writer.writerows(rows)
    n_labelled = sum(bool(row.get("label")) for row in rows)
    print(f"{n_labelled} of {len(rows)} rows labelled", file=sys.stderr)


if __name__ == "__main__":
    main()
