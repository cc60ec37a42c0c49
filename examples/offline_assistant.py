"""A terminal assistant that needs no network and continues where the last chat ended.

The messages are kept as JSON, and what the model computed for them as a session file. The next
start loads both, so the first answer does not compute the whole chat again.

    python examples/offline_assistant.py --model smollm2 --folder assistant

Ctrl-C stops an answer. An empty line leaves.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from localgen import LocalModel, StateError

Messages = list[dict[str, str]]
SYSTEM = "You answer in one or two sentences."
MAX_NEW_TOKENS = 200


def load(model: LocalModel, folder: Path) -> Messages:
    """Return the messages of the last chat; restore what the model computed for them."""
    try:
        messages: Messages = json.loads((folder / "messages.json").read_text("utf-8"))
    except FileNotFoundError:
        return [{"role": "system", "content": SYSTEM}]
    print(f"Continuing a chat of {len(messages)} messages", file=sys.stderr)
    try:
        model.load_session(folder / "kv.session")
    except (FileNotFoundError, StateError) as error:  # another model or version wrote it
        print(f"All of it is computed again: {error}", file=sys.stderr)
    return messages


def save(model: LocalModel, folder: Path, messages: Messages) -> None:
    """Write the messages, and what the model computed for them."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = folder / "messages.json.tmp"
    unfinished.write_text(json.dumps(messages, ensure_ascii=False, indent=1), "utf-8")
    unfinished.replace(folder / "messages.json")
    try:
        model.save_session(folder / "kv.session")
    except StateError as error:  # some architectures have no sessions
        print(f"Only the text was saved: {error}", file=sys.stderr)


def fit(model: LocalModel, messages: Messages) -> Messages:
    """Return the messages without the oldest turns, so that the next answer has room."""
    while len(messages) > 2:  # the system message and the question stay
        ids = model.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False
        )
        if len(ids) + MAX_NEW_TOKENS <= model.config.n_ctx:
            break
        messages = [messages[0], *messages[3:]]
    return messages


def answer(model: LocalModel, messages: Messages) -> str:
    """Print the answer while it is generated, and return it; Ctrl-C ends it early."""
    stream = model.chat_stream(messages, max_new_tokens=MAX_NEW_TOKENS, temperature=0.7, top_p=0.9)
    try:
        for piece in stream:
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        print(" [stopped]", end="")
    print()
    return stream.completion.text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="smollm2", help="a name, or the path of a GGUF file")
    parser.add_argument("--folder", type=Path, default=Path("assistant"), help="keeps the chat")
    args = parser.parse_args()
    with LocalModel.from_pretrained(args.model, local_files_only=True) as model:
        messages = load(model, args.folder)
        try:
            while question := input("> ").strip():
                asked = fit(model, [*messages, {"role": "user", "content": question}])
                text = answer(model, asked)
                messages = [*asked, {"role": "assistant", "content": text}]
        except (EOFError, KeyboardInterrupt):
            print()
        save(model, args.folder, messages)


if __name__ == "__main__":
    main()
