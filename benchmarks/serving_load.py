"""Load `localgen serve` with many clients that leave at random times, and look for what is lost.

    python benchmarks/serving_load.py [--clients N] [--requests N] [--leave-within SECONDS]
    python benchmarks/serving_load.py --kill-worker N
    python benchmarks/serving_load.py --deterministic

Each client sends its requests one after the other: one of some chats, greedy, with a random number
of new tokens. A third of the requests is left at a random time. A text must be the one that a model
in this process gives to the chat, up to a token that is about as likely as another; to the last
byte with ``--deterministic``, which both models then are. ``--kill-worker N`` kills the process
that computes after every N answers; requests that have a place may then end with an error of a
named type, those that wait for one may not. Memory, files and threads of the server's processes are
read all the while. The last line of the output is one JSON object; the exit status is 1 if anything
was lost, harmed, wrong or stuck.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from common import Row, argument_parser, progress, report, usable_cpus
from greedy_texts import GreedyText, greedy_texts
from http_clients import Answer, exchange
from server_watch import Turn, Watch, turns_of
from servers import N_CTX, Server, own_server
from serving import chats

from localgen import hub

N_CHATS = 48
# Rounding, which depends on the other rows of a batch, moves a difference of two logits of a
# quantized model by up to 0.8.
TIE = 1.0
BAD = ("lost", "harmed", "wrong", "stuck")
_STUCK_SECONDS = 180.0
_SECONDS_TO_SETTLE = 2.0
_NOTE = """\
{clients} clients of {requests} requests each, {rows} of which have a place at a time. whole:
answered to the end; tie: whole, and other than in process from a token on that is about as likely
as another; widest_tie: the largest difference of their log-probabilities; cut: the client left;
error: of a named type, of a request that had a place when the worker was killed; refused: as an
equal one was computed at two kills; harmed: an error of any other; waited_through: requests
without a place when the worker was killed, that were answered. Memory and files are those of all
processes of the server, at most in the first quarter of the time and when all is over."""


class Load:
    """What was asked, and what came of it."""

    def __init__(
        self, server: Server, given: Sequence[Any], texts: Sequence[GreedyText], tie: float
    ) -> None:
        """tie: how much less likely a text may be where it differs."""
        self._server, self._given, self._texts, self._tie = server, given, texts, tie
        self.watch = Watch(server.process.pid)
        self.outcomes: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.kills: list[tuple[float, float]] = []
        self.failed: list[str] = []
        self.widest_tie = 0.0
        self.n_tokens = self.n_waited_through = 0

    async def run(self, options: Any) -> None:
        """Let all clients send their requests."""
        following = asyncio.create_task(self.watch.follow())
        clients = [self._client(number, options) for number in range(options.clients)]
        await asyncio.gather(*clients)
        following.cancel()
        await asyncio.sleep(_SECONDS_TO_SETTLE)
        self.watch.sample()

    async def _client(self, number: int, options: Any) -> None:
        draw, kill_every = random.Random(number), options.kill_worker
        for n in range(options.requests):
            index = draw.randrange(len(self._given))
            leaves = draw.uniform(0, options.leave_within) if draw.random() < 1 / 3 else None
            n_new = draw.randint(1, options.new_tokens)
            await self._ask(f"{number}-{n}", index, n_new, leaves)
            if kill_every and sum(self.outcomes.values()) % kill_every == 0:
                self._kill()

    async def _ask(self, name: str, index: int, n_new: int, leaves: float | None) -> None:
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
            answer = await exchange(self._server.port, body, cut_after=limit, request_id=name)
        except OSError as error:
            self._count("lost", f"{type(error).__name__}: {error}")
            return
        self.seconds.append(time.perf_counter() - started)
        self.n_tokens += answer.n_tokens
        if answer.error:
            self._judge_error(name, answer)
        else:
            self._judge_text(answer, self._texts[index], n_new, left=leaves is not None)

    def _judge_error(self, name: str, answer: Answer) -> None:
        self.errors[f"{answer.status} {answer.error.get('type')} {answer.error.get('code')}"] += 1
        if answer.error.get("code") == "request_crashes_model":
            self._count("refused")
        elif all(isinstance(answer.error.get(key), str) for key in ("type", "code", "message")):
            self.failed.append(name)
            self._count("error")
        else:
            self._count("lost", str(answer))

    def _judge_text(self, answer: Answer, wanted: GreedyText, n_new: int, *, left: bool) -> None:
        is_whole = answer.status == 200 and answer.ended and answer.finish_reason is not None
        gap = wanted.gap(answer.text, n_new=n_new, is_whole=is_whole)
        if gap > self._tie:
            told = f"{answer.text!r} of {n_new} tokens, for {wanted.text!r}: {gap:.3f} less likely"
            self._count("wrong", told)
        elif answer.cut:
            self._count("cut" if left else "stuck", str(answer))
        elif is_whole:
            self.widest_tie = max(self.widest_tie, gap)
            self._count("tie" if gap else "whole")
        else:
            self._count("lost", str(answer))

    def _count(self, outcome: str, told: str = "") -> None:
        self.outcomes[outcome] += 1
        if outcome in BAD:
            progress(f"{outcome}: {told[:600]}")

    def _kill(self) -> None:
        worker = self.watch.worker()
        if worker is not None:
            before = time.time()
            worker.kill()
            self.kills.append((before, time.time()))

    def blame(self, turns: dict[str, Turn]) -> None:
        """Tell errors of requests that had a place when the worker was killed from others."""
        for name in self.failed:
            turn = turns[name]
            if not any(turn.is_at(kill) for kill in self.kills):
                self.outcomes["error"] -= 1
                self._count("harmed", f"{name}: {turn}, of the kills {self.kills}")
        answered = [turn for name, turn in turns.items() if name not in self.failed]
        self.n_waited_through = sum(
            any(turn.waited_through(kill) for kill in self.kills) for turn in answered
        )


def row_of(load: Load, seconds: float, gauges: Row) -> Row:
    """Return what a load came to."""
    samples = load.watch.samples
    early = [max(each) for each in zip(*samples[: len(samples) // 4 + 1], strict=True)]
    last = samples[-1]
    return {
        **{name: load.outcomes[name] for name in ("whole", "tie", "cut", "error", "refused", *BAD)},
        "widest_tie": load.widest_tie,
        "kills": len(load.kills),
        "waited_through": load.n_waited_through,
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


def parsed_options() -> Any:
    """Return the options of the command line."""
    parser = argument_parser(__doc__, rounds=1, new_tokens=64)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=50, help="of each client")
    parser.add_argument(
        "--rows", type=int, default=8, help="that run at a time, default: %(default)s"
    )
    parser.add_argument(
        "--leave-within",
        type=float,
        default=3.0,
        metavar="SECONDS",
        help="those that leave do so before this time, default: %(default)s",
    )
    parser.add_argument("--kill-worker", type=int, metavar="N", help="after every N answers")
    parser.add_argument("--no-isolation", action="store_true", help="compute in the server")
    parser.add_argument("--deterministic", action="store_true", help="expect no tie at all")
    return parser.parse_args()


def main() -> None:
    """Load a server, print and write what came of it."""
    options = parsed_options()
    path = str(hub.resolve(options.model))
    given = chats(0, N_CHATS)
    texts = greedy_texts(path, given, options.new_tokens, deterministic=options.deterministic)
    flags = [name for name in ("no_isolation", "deterministic") if getattr(options, name)]
    more = [f"--{name.replace('_', '-')}" for name in flags]
    size = ["--n-ctx", str(N_CTX), "--max-sequences", str(options.rows)]
    with own_server(path, *size, *more) as server:
        load = Load(server, given, texts, 0.0 if options.deterministic else TIE)
        started = time.perf_counter()
        asyncio.run(load.run(options))
        seconds = time.perf_counter() - started
        load.blame(turns_of(server.output().splitlines()))
        row = row_of(load, seconds, gauges_of(server))
    note = _NOTE.format(**vars(options))
    errors = dict(load.errors.most_common())
    name = "serving_load-kills" if options.kill_worker else "serving_load"
    report(name, [row], options, threads=usable_cpus(), note=note, errors=errors)
    sys.exit(any(load.outcomes[each] for each in BAD))


if __name__ == "__main__":
    main()
