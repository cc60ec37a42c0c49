"""Measure what a saved session is worth: reading 2,000 tokens' KV against computing it again.

    python benchmarks/sessions.py

In each round, from an empty KV cache: `complete()` with one new token (--new-tokens) on a prompt of
that length; and `load_session()` followed by the same call, which computes the prompt's last token
only.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
from common import Row
from floors import text_of

_NOTE = """\
ratio is the seconds of `complete()` from an empty KV cache divided by those of `load_session()` and
the same call after it, in each round: above 1, the file is faster. `load_s` is `load_session()`
alone: it checks the checksum, and the file was just read, so it comes from memory. `save_s` waits
for the disk."""


def seconds_of(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def one_round(model: Any, prompt: list[int], n_new: int, path: Path) -> Row:
    """Return the seconds of each way to the new tokens, of loading alone, and of saving."""

    def complete(n_cached: int) -> None:
        done = model.complete([prompt], max_new_tokens=n_new, eos_token_id=[])[0]
        if done.stats.n_cached != n_cached:
            raise RuntimeError(f"{done.stats.n_cached} tokens were reused, not {n_cached}")

    model._driver._engine.restart()  # as in a new process, except that the context stays
    computed = seconds_of(lambda: complete(0))
    saved = seconds_of(lambda: model.save_session(path))
    model._driver._engine.restart()
    loaded = seconds_of(lambda: model.load_session(path))
    rest = seconds_of(lambda: complete(len(prompt) - 1))
    return {"computed": computed, "saved": saved, "loaded": loaded, "restored": loaded + rest}


def measure(options: Any) -> None:
    """Run the rounds and report them."""
    from localgen import LocalModel  # noqa: PLC0415  # --help needs no model

    with (
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
        LocalModel.from_pretrained(options.model, n_threads=options.threads) as model,
    ):
        path = Path(folder) / "benchmark.session"
        prompt = model.tokenizer.encode(text_of(model.tokenizer, options.tokens))
        n_new = options.new_tokens
        one_round(model, prompt, n_new, path)  # creates the context and reads the weights
        rounds = [one_round(model, prompt, n_new, path) for _ in range(options.rounds)]
        row = {
            "n_prompt": options.tokens,
            "n_new": n_new,
            **common.spread("ratio", [r["computed"] / r["restored"] for r in rounds]),
            **common.spread("prefill_s", [r["computed"] for r in rounds]),
            **common.spread("load_and_call_s", [r["restored"] for r in rounds]),
            **common.spread("load_s", [r["loaded"] for r in rounds]),
            **common.spread("save_s", [r["saved"] for r in rounds]),
            "file_mb": os.path.getsize(path) / 1e6,
        }
        threads = common.n_threads(model)
    common.report("sessions", [row], options, threads=threads, note=_NOTE)


def main() -> None:
    """Measure as the command line says."""
    parser = common.argument_parser(__doc__, rounds=5, new_tokens=1)
    parser.add_argument(
        "--tokens", type=int, default=2000, help="tokens of the prompt; default: %(default)s"
    )
    parser.add_argument("--threads", type=int, help="CPU threads; default: all CPUs")
    parser.add_argument("--folder", type=Path, help="of the session file; default: temporary")
    options = parser.parse_args()
    if options.rounds < 1 or options.tokens < 32:
        parser.error("--rounds must be at least 1, --tokens at least 32")
    measure(options)


if __name__ == "__main__":
    main()
