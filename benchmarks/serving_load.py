"""Load `localgen serve` with many clients that leave at random times, and look for what is lost.

    python benchmarks/serving_load.py [--clients N] [--requests N] [--kill-worker N]

Each client sends its requests one after the other: one of some chats, greedy, with a random number
of new tokens. A third of the requests is left at a random time. A text must begin like the one that
a model in this process gives to the chat, up to a token that is about as likely as another.
``--kill-worker N`` kills the process that computes after every N answers; requests may then end
with an error of a named type. Memory, files and threads of the server's processes are read all the
while. The last line of the output is one JSON object; the exit status is 1 if anything was lost,
wrong or stuck.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
from common import Row, argument_parser, progress, report, usable_cpus
from http_clients import Answer, exchange
from servers import N_CTX, Server, own_server
from serving import chats

from localgen import LocalModel, hub

N_CHATS = 48
# A text may differ from a token on whose log-probability exceeds the next one's by less than this.
TIE = 0.1
_STUCK_SECONDS = 180.0
_SECONDS_BETWEEN_SAMPLES = 1.0
_NOTE = """\
{clients} clients of {requests} requests each. whole: answered to the end; cut: the client left;
error: answered with an error of a named type; tie: the text differs from a token on that is about
as likely as another. Memory and files are those of all processes of the server, after a quarter of
the requests and when all are over."""


@dataclass
class Expected:
    """The text of a chat in process, where its tokens end, and how sure each was."""

    text: str
    ends: list[int]
    margins: list[float]

    def verdict(self, text: str) -> str:
        """Return "equal" if the text begins like this one, else "tie" or "wrong"."""
        if self.text.startswith(text):
            return "equal"
        same = next(
            (i for i, (a, b) in enumerate(zip(text, self.text, strict=False)) if a != b),
            len(self.text),
        )
        token = next((i for i, end in enumerate(self.ends) if end > same), None)
        return "tie" if token is not None and self.margins[token] < TIE else "wrong"


def expected_texts(path: str, given: Sequence[Any], n_new: int) -> list[Expected]:
    """Return what a model in this process answers to each chat."""
    with LocalModel.from_pretrained(path, n_ctx=N_CTX) as model:
        prompts = [model.chat_prompt(messages) for messages in given]
        done = model.complete(prompts, max_new_tokens=n_new, do_sample=False, logprobs=2)
        return [_expected(model, each) for each in done]


def _expected(model: Any, done: Any) -> Expected:
    ids = done.token_ids
    ends = [len(model.tokenizer.decode(ids[: n + 1])) for n in range(len(ids))]
    margins = [each.top[0][1] - each.top[1][1] for each in done.logprobs]
    return Expected(done.text, ends, margins)


# --- the server's processes ---


@dataclass
class Watch:
    """Samples of memory (MB), open files and threads of a process and its children."""

    pid: int
    samples: list[tuple[float, int, int]] = field(default_factory=list)

    def processes(self) -> list[psutil.Process]:
        server = psutil.Process(self.pid)
        return [server, *server.children(recursive=True)]

    def sample(self) -> None:
        found = [(0.0, 0, 0)]
        for each in self.processes():
            try:
                found.append((each.memory_info().rss / 1e6, each.num_fds(), each.num_threads()))
            except psutil.Error:  # it ended meanwhile
                continue
        memory, files, threads = zip(*found, strict=True)
        self.samples.append((sum(memory), sum(files), sum(threads)))

    def worker(self) -> psutil.Process | None:
        """Return the process that computes: the child with the most memory."""
        children = [each for each in self.processes()[1:] if each.is_running()]
        return max(children, key=lambda each: each.memory_info().rss, default=None)

    async def follow(self) -> None:
        while True:
            self.sample()
            await asyncio.sleep(_SECONDS_BETWEEN_SAMPLES)


# --- the clients ---


class Load:
    """What was asked, and what came of it."""

    def __init__(self, server: Server, given: Sequence[Any], expected: Sequence[Expected]) -> None:
        self._server, self._given, self._expected = server, given, expected
        self.watch = Watch(server.process.pid)
        self.outcomes: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.bad: list[str] = []
        self.seconds: list[float] = []
        self.n_tokens = self.n_kills = 0

    async def client(self, number: int, options: Any) -> None:
        draw, kill_every = random.Random(number), options.kill_worker
        for _ in range(options.requests):
            index = draw.randrange(len(self._given))
            leaves = draw.uniform(0, 3) if draw.random() < 1 / 3 else None
            await self._ask(index, draw.randint(1, options.new_tokens), leaves)
            if kill_every and sum(self.outcomes.values()) % kill_every == 0:
                self._kill()

    async def _ask(self, index: int, n_new: int, leaves: float | None) -> None:
        started = time.perf_counter()
        body = {
            "model": self._server.model,
            "messages": self._given[index],
            "max_tokens": n_new,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        limit = _STUCK_SECONDS if leaves is None else leaves
        try:
            answer = await exchange(self._server.port, body, cut_after=limit)
        except OSError as error:
            self._count("lost", f"{type(error).__name__}: {error}")
            return
        self.seconds.append(time.perf_counter() - started)
        self._judge(answer, self._expected[index], left=leaves is not None)

    def _judge(self, answer: Answer, expected: Expected, *, left: bool) -> None:
        self.n_tokens += answer.n_tokens
        if answer.error:
            kind = answer.error.get("type"), answer.error.get("code")
            named = all(isinstance(answer.error.get(key), str) for key in ("type", "message"))
            self.errors[f"{answer.status} {kind[0]} {kind[1]}"] += 1
            self._count("error" if named else "lost", str(answer))
            return
        verdict = expected.verdict(answer.text)
        if verdict == "wrong":
            self._count("wrong", f"{answer.text!r} for {expected.text!r}")
        elif answer.cut:
            self._count("cut" if left else "stuck", str(answer))
        elif answer.status == 200 and answer.ended and answer.finish_reason:
            self._count("whole" if verdict == "equal" else "tie", "")
        else:
            self._count("lost", str(answer))

    def _count(self, outcome: str, told: str) -> None:
        self.outcomes[outcome] += 1
        if outcome in ("lost", "wrong", "stuck"):
            self.bad.append(told)
            progress(f"{outcome}: {told[:400]}")

    def _kill(self) -> None:
        worker = self.watch.worker()
        if worker is not None:
            self.n_kills += 1
            worker.kill()

    async def run(self, options: Any) -> None:
        following = asyncio.create_task(self.watch.follow())
        clients = [self.client(number, options) for number in range(options.clients)]
        await asyncio.gather(*clients)
        following.cancel()
        await asyncio.sleep(2 * _SECONDS_BETWEEN_SAMPLES)
        self.watch.sample()


def row_of(load: Load, seconds: float, gauges: Row) -> Row:
    samples = load.watch.samples
    early, last = samples[len(samples) // 4], samples[-1]
    names = ("whole", "tie", "cut", "error", "lost", "wrong", "stuck")
    return {
        **{name: load.outcomes[name] for name in names},
        "kills": load.n_kills,
        "seconds": seconds,
        "tokens_per_second": load.n_tokens / seconds,
        "slowest": max(load.seconds),
        "MB early": early[0],
        "MB last": last[0],
        "files early": early[1],
        "files last": last[1],
        "threads early": early[2],
        "threads last": last[2],
        **gauges,
    }


def gauges_of(server: Server) -> Row:
    """Return the gauges of the server that say what runs and waits; all should be 0."""
    lines = server.get("/metrics")[1].decode().splitlines()
    pairs = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    wanted = ("running", "waiting", "in_flight", "in_progress")
    return {
        name.split("{")[0]: float(value)
        for name, _, value in pairs
        if any(word in name for word in wanted) and not name.endswith("_created")
    }


def main() -> None:
    """Load a server, print and write what came of it."""
    parser = argument_parser(__doc__, rounds=1, new_tokens=64)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=50, help="of each client")
    parser.add_argument("--kill-worker", type=int, metavar="N", help="after every N answers")
    parser.add_argument("--no-isolation", action="store_true", help="compute in the server")
    options = parser.parse_args()
    path = str(hub.resolve(options.model))
    given = chats(0, N_CHATS)
    expected = expected_texts(path, given, options.new_tokens)
    more = ["--n-ctx", str(N_CTX), *(["--no-isolation"] if options.no_isolation else [])]
    with own_server(path, *more) as server:
        load = Load(server, given, expected)
        started = time.perf_counter()
        asyncio.run(load.run(options))
        row = row_of(load, time.perf_counter() - started, gauges_of(server))
    note = _NOTE.format(clients=options.clients, requests=options.requests)
    errors = dict(load.errors.most_common())
    report("serving_load", [row], options, threads=usable_cpus(), note=note, errors=errors)
    sys.exit(bool(load.bad))


if __name__ == "__main__":
    main()
