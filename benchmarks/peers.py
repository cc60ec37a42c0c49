"""Compare localgen with the other ways to run a GGUF from Python, each used as its users would.

Peers: localgen; llama-cpp-python's `Llama` at its defaults, and with a thread for each CPU;
llama.cpp alone, which neither samples nor makes text; and, with --transformers, transformers on the
same file. In each round, each runs in a fresh process, in turn. Only Llama can stop at an EOS
token, because it has no cheap way to ignore it: its speeds count the tokens that it generated.

    python benchmarks/peers.py
    python benchmarks/peers.py --transformers      # needs torch, transformers, gguf, accelerate
    python benchmarks/peers.py --pairs --rounds 100

Where the machine's speed changes from one second to the next, alternating processes show large
differences only. With --pairs, localgen and Llama alternate call by call, in one process.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
from common import CHAIN, PASSAGE, Row

# No two share a first word, so that no peer can reuse what it has computed. SmolLM2 continues each
# for 64 tokens and more.
_OPENINGS = (
    "Once upon a time in a small town by the river,",
    "My grandmother used to bake bread every morning because",
    "When the first train arrived at the new station,",
    "Deep in the forest there lived an old fox who",
    "As the storm came closer, the captain",
    "Far away, behind the mountains, a young queen",
    "There are three good reasons to learn to swim:",
    "Every summer the children built a raft and",
)
# With the passage before them, prompts of about 128 tokens for most tokenizers.
_WORDS = 100
_N_WARM = 5
_SEED = 7
_NOTE = """\
import_s and load_s: in a fresh process. first_call_s: to the first piece of text of the first call,
which includes what a peer does not do while loading. ttft_s and tokens_per_s: the median of five
further calls with other prompts of about 128 tokens: seconds to the first piece, then new tokens
per second. batch_tokens_per_s: new tokens of eight short prompts divided by the seconds for all of
them; localgen takes them in one call, transformers as one padded batch, Llama one after another.
llama.cpp alone decodes given tokens. Sampling is the same for all others: temperature 0.8, top_k
40, top_p 0.95, min_p 0.05, repetition penalty 1.1. peak_mb and batch_peak_mb: peak resident memory,
mapped weights included, before and after the batch. n_prompt, n_new, n_batch_new: tokens of the
second call, and new tokens of the batch."""

_PAIRS_NOTE = """\
Alternating streams in one process, with prompts of about 128 tokens: new tokens per second after
the first piece of text. ratio is localgen's speed divided by the peer's, in each pair. Sampling is
the same: temperature 0.8, top_k 40, top_p 0.95, min_p 0.05, repetition penalty 1.1."""


@dataclass(frozen=True)
class Run:
    """One streamed call: seconds to its first piece and to its end, and the tokens it generated."""

    first: float
    end: float
    n_prompt: int
    n_new: int

    @property
    def tokens_per_s(self) -> float:
        return (self.n_new - 1) / (self.end - self.first)


class Localgen:
    """localgen at its defaults."""

    modules = ("localgen",)

    def load(self, model: str, n_new: int) -> None:
        self._model = importlib.import_module("localgen").LocalModel.from_pretrained(model)
        self._options = {**CHAIN, "seed": _SEED, "max_new_tokens": n_new, "eos_token_id": []}
        self.n_threads = self._model._backend.n_threads

    def stream(self, prompt: str) -> Run:
        started = time.perf_counter()
        pieces = self._model.stream(prompt, **self._options)
        next(pieces)
        first = time.perf_counter() - started
        for _ in pieces:
            pass
        end = time.perf_counter() - started
        done = pieces.completion
        return Run(first, end, len(done.prompt_token_ids), len(done.token_ids))

    def batch(self, prompts: list[str]) -> int:
        done = self._model.complete(prompts, **self._options)
        return sum(len(completion.token_ids) for completion in done)


class LlamaCpp:
    """llama-cpp-python's high-level class; ``threads`` None is its own default."""

    modules = ("llama_cpp",)

    def __init__(self, threads: int | None = None) -> None:
        self._threads = {} if threads is None else {"n_threads": threads}

    def load(self, model: str, n_new: int) -> None:
        llama_class = importlib.import_module("llama_cpp").Llama
        n_ctx = max(512, 256 + n_new)
        self._llama = llama_class(_path(model), n_ctx=n_ctx, verbose=False, **self._threads)
        self.n_threads = self._llama.n_threads
        names = {"repetition_penalty": "repeat_penalty"}
        chain = {names.get(name, name): value for name, value in CHAIN.items()}
        self._options = {**chain, "seed": _SEED, "max_tokens": n_new}

    def stream(self, prompt: str) -> Run:
        started = time.perf_counter()
        chunks = self._llama.create_completion(prompt, stream=True, **self._options)
        next(chunks)
        first = time.perf_counter() - started
        for _ in chunks:
            pass
        end = time.perf_counter() - started
        n_prompt = len(self._llama.tokenize(prompt.encode()))
        return Run(first, end, n_prompt, self._n_new(n_prompt))

    def batch(self, prompts: list[str]) -> int:
        n_tokens = 0
        for prompt in prompts:
            usage = self._llama.create_completion(prompt, **self._options)["usage"]
            n_tokens += self._n_new(usage["prompt_tokens"])
        return n_tokens

    def _n_new(self, n_prompt: int) -> int:
        # Everything but the last token was evaluated; an EOS token was generated as well.
        return int(self._llama.n_tokens) - n_prompt + 1


class LlamaAlone:
    """llama.cpp alone, in a context with localgen's parameters: the limit for every peer.

    It chooses no tokens: it decodes tokens of the prompts again, and makes no text.
    """

    modules = ("localgen",)

    def load(self, model: str, n_new: int) -> None:
        localgen = importlib.import_module("localgen")
        backends = importlib.import_module("localgen.llama.backend")
        self._baseline = importlib.import_module("localgen.llama.baseline")
        self._bindings = importlib.import_module("localgen.llama.library").llama()
        self._backend = backends.LlamaBackend(Path(_path(model)), localgen.ModelConfig())
        self._tokenizer = localgen.Tokenizer(self._backend.vocab)
        self._n_new = n_new
        self.n_threads = self._backend.n_threads

    def stream(self, prompt: str) -> Run:
        token_ids = self._tokenizer.encode(prompt)
        first, end = self._seconds([token_ids])
        return Run(first, end, len(token_ids), self._n_new)

    def batch(self, prompts: list[str]) -> int:
        rows = [self._tokenizer.encode(prompt) for prompt in prompts]
        length = min(map(len, rows))
        self._seconds([row[:length] for row in rows])
        return len(rows) * self._n_new

    def _seconds(self, prompts: list[list[int]]) -> tuple[float, float]:
        """Return the seconds of the prompts' passes, and of these and the steps after them."""
        new = [(row * self._n_new)[: self._n_new] for row in prompts]
        self._backend.reserve(len(prompts), len(prompts[0]) + self._n_new)
        with self._backend.lent_context() as context:
            passes = self._baseline.prompt_batches(self._bindings, prompts, self._backend.n_batch)
            first = self._baseline.run_batches(self._bindings, context, passes)
            steps = self._baseline.step_batches(self._bindings, prompts, new)
            return first, first + self._baseline.run_batches(self._bindings, context, steps)


class Transformers:
    """transformers on the GGUF's weights, in the precision that it chooses."""

    modules = ("torch", "transformers")

    def load(self, model: str, n_new: int) -> None:
        hf = importlib.import_module("transformers")
        folder, name = os.path.split(os.path.abspath(_path(model)))
        self._tokenizer = hf.AutoTokenizer.from_pretrained(folder, gguf_file=name)
        self._model = hf.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name)
        self._tokenizer.padding_side = "left"
        self._tokenizer.pad_token = self._tokenizer.pad_token or self._tokenizer.eos_token
        self._options = {
            **CHAIN,
            "do_sample": True,
            "max_new_tokens": n_new,
            "min_new_tokens": n_new,
            "pad_token_id": self._tokenizer.pad_token_id,
        }
        self.n_threads = importlib.import_module("torch").get_num_threads()

    def stream(self, prompt: str) -> Run:
        clock = _TokenClock()
        started = time.perf_counter()
        inputs = self._tokenizer(prompt, return_tensors="pt")
        output = self._generate(inputs, streamer=clock)
        self._texts(inputs, output)
        end = time.perf_counter() - started
        n_prompt = inputs["input_ids"].shape[1]
        return Run(clock.first - started, end, n_prompt, output.shape[1] - n_prompt)

    def batch(self, prompts: list[str]) -> int:
        inputs = self._tokenizer(prompts, padding=True, return_tensors="pt")
        output = self._generate(inputs)
        self._texts(inputs, output)
        return int(output.shape[0] * (output.shape[1] - inputs["input_ids"].shape[1]))

    def _generate(self, inputs: Any, **options: Any) -> Any:
        importlib.import_module("torch").manual_seed(_SEED)
        return self._model.generate(**inputs, **self._options, **options)

    def _texts(self, inputs: Any, output: Any) -> list[str]:
        new = output[:, inputs["input_ids"].shape[1] :]
        texts: list[str] = self._tokenizer.batch_decode(new, skip_special_tokens=True)
        return texts


class _TokenClock:
    """A streamer that records the time of the first new token; the prompt comes before it."""

    def __init__(self) -> None:
        self.first = 0.0
        self._n_puts = 0

    def put(self, _token_ids: Any) -> None:
        self._n_puts += 1
        if self._n_puts == 2:
            self.first = time.perf_counter()

    def end(self) -> None:
        """Nothing is left to do."""


_PEERS: dict[str, Any] = {
    "localgen": Localgen,
    "Llama": LlamaCpp,
    "Llama, all CPUs": lambda: LlamaCpp(common.usable_cpus()),
    "llama.cpp alone": LlamaAlone,
    "transformers": Transformers,
}
_LLAMAS = ("Llama", "Llama, all CPUs")


def _path(model: str) -> str:
    """Return the path of ``model``; localgen resolves smollm2."""
    if Path(model).exists():
        return model
    return str(importlib.import_module("localgen.hub").resolve(model))


def _long_prompt(opening: str) -> str:
    return f"{opening} {' '.join(PASSAGE.split()[:_WORDS])}"


def run_peer(peer: str, model: str, n_new: int) -> Row:
    """Run one peer in the child, from its import to its peak memory."""
    runner = _PEERS[peer]()
    started = time.perf_counter()
    for module in runner.modules:
        importlib.import_module(module)
    imported = time.perf_counter()
    runner.load(model, n_new)
    loaded = time.perf_counter()
    cold = runner.stream(_long_prompt(_OPENINGS[0]))
    warm = [runner.stream(_long_prompt(opening)) for opening in _OPENINGS[1 : 1 + _N_WARM]]
    peak = common.peak_memory_mb()
    batch_started = time.perf_counter()
    n_batch = runner.batch(list(_OPENINGS))
    batch_seconds = time.perf_counter() - batch_started
    return {
        "threads": runner.n_threads,
        "import_s": imported - started,
        "load_s": loaded - imported,
        "first_call_s": cold.first,
        "ttft_s": statistics.median(run.first for run in warm),
        "tokens_per_s": statistics.median(run.tokens_per_s for run in warm),
        "peak_mb": peak,
        "batch_tokens_per_s": n_batch / batch_seconds,
        "batch_peak_mb": common.peak_memory_mb(),
        "n_prompt": warm[0].n_prompt,
        "n_new": warm[0].n_new,
        "n_batch_new": n_batch,
    }


def measure(options: Any) -> None:
    """Run all peers in turn and report the medians."""
    optional = [] if options.transformers else ["transformers"]
    peers = options.only or [name for name in _PEERS if name not in optional]
    model = _path(options.model)  # resolved here, so that no child imports anything for it
    rounds: dict[str, list[Row]] = {peer: [] for peer in peers}
    for number in range(options.rounds):
        # Each goes first once: peers leave the CPU's turbo and caches in different states.
        first = number % len(peers)
        for peer in peers[first:] + peers[:first]:
            common.progress(f"round {number + 1} of {options.rounds}: {peer}")
            task = {"peer": peer, "model": model, "n_new": options.new_tokens}
            rounds[peer].append(common.run_child(task))
    rows = [_row(peer, found) for peer, found in rounds.items()]
    common.report("peers", rows, options, threads=common.usable_cpus(), note=_NOTE, rounds=rounds)


def measure_pairs(options: Any) -> None:
    """Alternate localgen and each kind of Llama in this process."""
    model = _path(options.model)
    ours = Localgen()
    ours.load(model, options.new_tokens)
    rows, rounds = [], {}
    for peer in options.only or _LLAMAS:
        common.progress(f"{peer}: {options.rounds} pairs")
        theirs = _PEERS[peer]()
        theirs.load(model, options.new_tokens)
        rounds[peer] = [_pair(ours, theirs, number) for number in range(options.rounds)]
        rows.append(
            {
                "peer": peer,
                "threads": theirs.n_threads,
                **common.spread("localgen_tokens_per_s", [pair[0] for pair in rounds[peer]]),
                **common.spread("peer_tokens_per_s", [pair[1] for pair in rounds[peer]]),
                **common.spread("ratio", [pair[0] / pair[1] for pair in rounds[peer]]),
            }
        )
    threads = common.usable_cpus()
    common.report("pairs", rows, options, threads=threads, note=_PAIRS_NOTE, rounds=rounds)


def _pair(ours: Any, theirs: Any, number: int) -> tuple[float, float]:
    """Return the tokens per second of both; they take turns at going first."""
    prompt = _long_prompt(_OPENINGS[number % len(_OPENINGS)])
    if number % 2:
        speed = ours.stream(prompt).tokens_per_s
        return speed, theirs.stream(prompt).tokens_per_s
    peer_speed = theirs.stream(prompt).tokens_per_s
    return ours.stream(prompt).tokens_per_s, peer_speed


def _row(peer: str, rounds: list[Row]) -> Row:
    counts = ("threads", "n_prompt", "n_new", "n_batch_new")
    row: Row = {"peer": peer, "threads": rounds[0]["threads"]}
    for key in rounds[0]:
        if key not in counts:
            row |= common.spread(key, [found[key] for found in rounds])
    return row | {key: int(common.median(rounds, key)) for key in counts[1:]}


def main() -> None:
    """Measure every peer, or as a child, one."""
    parser = common.argument_parser(__doc__, rounds=5, new_tokens=64)
    parser.add_argument("--transformers", action="store_true", help="measure transformers too")
    parser.add_argument("--pairs", action="store_true", help="alternate calls in one process")
    parser.add_argument("--only", nargs="+", metavar="PEER", choices=list(_PEERS))
    options = parser.parse_args()
    if options.new_tokens < 2 or options.rounds < 1:
        parser.error("--new-tokens must be at least 2, --rounds at least 1")
    if options.pairs and (options.transformers or not {*(options.only or ())} <= {*_LLAMAS}):
        parser.error(f"--pairs is for {' and '.join(map(repr, _LLAMAS))}")
    if options.child:
        with contextlib.redirect_stdout(sys.stderr):
            result = run_peer(**options.child)
        print(json.dumps(result))
    elif options.pairs:
        measure_pairs(options)
    else:
        measure(options)


if __name__ == "__main__":
    main()
