"""Count what token healing does to texts that are cut anywhere, and measure what it costs.

    python benchmarks/healing.py [--model FILE] [--cuts N] [--new-tokens N] [--output DIR]

Each of the 50 texts in tests/real/healing_texts.json (code, URLs, CJK, emoji, prose) is cut at
``--cuts`` random places and continued greedily with ``token_healing=True``. Counted are the
outputs that begin with the prompt's bytes; those whose remaining tokens the model continues in a
way that healing allows; and of these, how many have the same tokens healed, or other ones after two
that were nearly as likely. Then the index is timed that healing needs of a vocabulary.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path

import common
import numpy as np

from localgen import Completion, LocalModel
from localgen.benchmark.healed_tokens import is_allowed, n_alike
from localgen.generation.healing import PromptEnd, n_to_back_up
from localgen.text.byte_index import ByteIndex

TEXTS = Path(__file__).parents[1] / "tests" / "real" / "healing_texts.json"
VOCABULARIES = (49_152, 151_936, 262_144)
# Logits of one step that are so close change places with what runs beside a sequence.
NEAR = 0.5


def cut(texts: list[str], n_cuts: int) -> list[str]:
    """Return each text up to ``n_cuts`` random places."""
    random_ = random.Random(15)
    return [text[: random_.randrange(1, len(text))] for text in texts for _ in range(n_cuts)]


def is_tie(healed: Completion, plain: Completion) -> bool:
    """Return whether two tokens were nearly as likely where the completions part."""
    assert healed.logprobs is not None
    (_, best), (_, second) = healed.logprobs[n_alike(healed.token_ids, plain.token_ids)].top
    return best - second < NEAR


def count(model: LocalModel, prompts: list[str], n_new: int) -> common.Row:
    """Return how many of the prompts' outputs are what they should be."""
    healed = model.complete(prompts, max_new_tokens=n_new, token_healing=True, logprobs=2)
    n_most = max(len(done.token_ids) for done in healed)
    plain = model.complete([done.prompt_token_ids for done in healed], max_new_tokens=n_most)
    counts: Counter[str] = Counter()
    for prompt, done, unhealed in zip(prompts, healed, plain, strict=True):
        output = b"".join(map(model.tokenizer.token_bytes, done.prompt_token_ids + done.token_ids))
        own = model.tokenizer.encode(prompt)[len(done.prompt_token_ids) :]
        counts["begin_with_prompt"] += output.startswith(prompt.encode())
        counts["healed"] += bool(own)
        counts["tokens_backed_up"] += len(own)
        if is_allowed(unhealed.token_ids, own, model.tokenizer.token_bytes):
            counts["model_agrees"] += 1
            is_same = n_alike(done.token_ids, unhealed.token_ids) == len(done.token_ids)
            counts["same"] += is_same
            counts["ties"] += not is_same and is_tie(done, unhealed)
    return {"cuts": len(prompts), **counts}


def cost(n_vocab: int) -> common.Row:
    """Return the milliseconds for a vocabulary of random words: its index, and one prompt's end."""
    random_ = np.random.RandomState(0)
    letters = random_.randint(97, 123, (n_vocab, 12)).astype(np.uint8)
    sizes = random_.randint(1, 13, n_vocab)
    pieces = [row[:size].tobytes() for row, size in zip(letters, sizes, strict=True)]
    started = time.perf_counter()
    index = ByteIndex(pieces)
    built = time.perf_counter()
    token_ids = random_.randint(0, n_vocab, 1000).astype(np.int32)
    n_tokens = max(n_to_back_up(token_ids, 0, index), 1)
    end = PromptEnd(token_ids[-n_tokens:], index)
    for number in range(n_tokens):
        end.mask(number)
    return {
        "n_vocab": n_vocab,
        "index_ms": (built - started) * 1e3,
        "prompt_ms": (time.perf_counter() - built) * 1e3,
    }


def main() -> None:
    """Read the arguments, measure, print and write."""
    parser = common.argument_parser(__doc__, rounds=1, new_tokens=4)
    parser.add_argument("--cuts", type=int, default=20, help="of each text; default: %(default)s")
    options = parser.parse_args()
    texts = json.loads(TEXTS.read_text("utf-8"))["texts"]
    with LocalModel.from_pretrained(options.model, device="cpu") as model:
        rows = [count(model, cut(texts, options.cuts), options.new_tokens)]
        threads = common.n_threads(model)
    costs = [cost(n_vocab) for n_vocab in VOCABULARIES]
    print("\n".join(common.aligned(common.table(costs))))
    note = "Texts cut anywhere, and continued greedily with token healing; counts."
    common.report("healing", rows, options, threads=threads, note=note, costs=costs)


if __name__ == "__main__":
    main()
