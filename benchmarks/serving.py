"""Compare `localgen serve` with the same rows in process, and with other servers.

    python benchmarks/serving.py [--clients N] [--rounds N] [--output DIR]
    python benchmarks/serving.py --first-token [--rounds N]
    python benchmarks/serving.py --tools BUILD/bin --peer-python VENV/bin/python

Each round sends the same chats, which no earlier round had, to every server, streamed and at once,
and to a model in this process; the order changes with each round. Clients run in a process of their
own. ``--first-token`` times the first text of one client instead. ``--tools`` is the folder of
llama-server, built from the llama.cpp that is vendored in llama-cpp-python's source package;
``--peer-python`` an environment with llama-cpp-python's extra ``server``. All servers have the same
file and threads; llama-server has a slot for each client. The last line of the output is one JSON
object.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from common import Row, argument_parser, n_threads, progress, report, spread
from http_clients import Answer, Clients
from servers import N_CTX, Server, llama_cpp_server, llama_server, own_server

from localgen import LocalModel, hub

# Names that all servers know.
SAMPLING: dict[str, Any] = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
IN_PROCESS = "in process"
_SUBJECTS = [
    "lighthouse",
    "clockmaker",
    "river",
    "orchard",
    "violin",
    "glacier",
    "harbour",
    "library",
]
_PLACES = ["in a small town", "by the sea", "in the mountains", "on an island", "far in the north"]
_NOTE = """\
{n} chats at once, streamed, each of {new} new tokens. tokens_per_second: of all together, from the
first request to the end of the last answer. ratio: localgen's server's over this one's in the same
round."""
_FIRST_NOTE = """\
One chat at a time. milliseconds: from the request to its first text. more: those of this way less
the ones in process, in the same round."""

Timed = Callable[[list[list[dict[str, str]]]], float]


def chats(number: int, n: int) -> list[list[dict[str, str]]]:
    """Return n chats that no other round has."""
    return [
        [
            {
                "role": "user",
                "content": f"Number {number}-{index}. Write a long story about a "
                f"{_SUBJECTS[(number + index) % len(_SUBJECTS)]} "
                f"{_PLACES[(number + 3 * index) % len(_PLACES)]}, and tell how it changes.",
            }
        ]
        for index in range(n)
    ]


def body(server: Server, messages: list[dict[str, str]], n_new: int) -> dict[str, Any]:
    """Return a streaming request."""
    return {
        "model": server.model,
        "messages": messages,
        "max_tokens": n_new,
        "stream": True,
        "stream_options": {"include_usage": True},
        **SAMPLING,
    }


def checked(name: str, answers: list[Answer]) -> list[Answer]:
    """Return the answers. Raises RuntimeError if one is not whole."""
    for each in answers:
        if each.status != 200 or not each.ended or each.error:
            raise RuntimeError(f"{name}: {each}")
    return answers


# --- ways: each returns a figure for some chats ---


def http_speed(server: Server, clients: Clients, n_new: int) -> Timed:
    def run(given: list[list[dict[str, str]]]) -> float:
        bodies = [body(server, messages, n_new) for messages in given]
        seconds, answers = clients.run(server.port, bodies)
        return sum(each.n_tokens for each in checked(server.name, answers)) / seconds

    return run


def own_speed(model: LocalModel, n_new: int) -> Timed:
    def run(given: list[list[dict[str, str]]]) -> float:
        started = time.perf_counter()
        prompts = [model.chat_prompt(messages) for messages in given]
        done = model.complete(prompts, max_new_tokens=n_new, do_sample=True, **SAMPLING)
        return sum(len(each.token_ids) for each in done) / (time.perf_counter() - started)

    return run


def http_first(server: Server, clients: Clients, n_new: int) -> Timed:
    def run(given: list[list[dict[str, str]]]) -> float:
        _, answers = clients.run(server.port, [body(server, given[0], n_new)])
        first = checked(server.name, answers)[0].first_seconds
        assert first is not None
        return 1e3 * first

    return run


def own_first(model: LocalModel, n_new: int) -> Timed:
    def run(given: list[list[dict[str, str]]]) -> float:
        started = time.perf_counter()
        stream = model.chat_stream(given[0], max_new_tokens=n_new, do_sample=True, **SAMPLING)
        next(iter(stream))
        seconds = time.perf_counter() - started
        for _ in stream:
            pass
        return 1e3 * seconds

    return run


# --- rounds ---


def rounds_of(ways: dict[str, Timed], n_rounds: int, n_chats: int) -> list[dict[str, float]]:
    """Return the figure of each way by round; a first round, which loads things, is left out."""
    found = []
    for number in range(n_rounds + 1):
        progress(f"round {number} of {n_rounds}")
        names = [*ways]
        names = names[number % len(names) :] + names[: number % len(names)]
        found.append({name: ways[name](chats(number, n_chats)) for name in names})
    return found[1:]


def speed_rows(found: list[dict[str, float]], own: str) -> list[Row]:
    return [
        {
            "way": way,
            **spread("tokens_per_second", [each[way] for each in found]),
            **spread("ratio", [each[own] / each[way] for each in found]),
        }
        for way in found[0]
    ]


def first_rows(found: list[dict[str, float]]) -> list[Row]:
    return [
        {
            "way": way,
            **spread("milliseconds", [each[way] for each in found]),
            **spread("more", [each[way] - each[IN_PROCESS] for each in found]),
        }
        for way in found[0]
    ]


def servers_of(options: Any, path: str, threads: int) -> list[Server]:
    """Return the servers to compare; localgen's comes first."""
    own = ("--n-ctx", str(N_CTX), "--no-access-log")
    found = [own_server(path, *own)]
    if options.no_isolation:
        found.append(own_server(path, *own, "--no-isolation", name="localgen --no-isolation"))
    if options.tools:
        found.append(llama_server(options.tools, path, threads, options.clients))
    if options.peer_python:
        found.append(llama_cpp_server(options.peer_python, path, threads))
    return found


def main() -> None:
    """Start all servers, measure in turns, print and write."""
    parser = argument_parser(__doc__, rounds=8, new_tokens=64)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--first-token", action="store_true", help="time it, with one client")
    parser.add_argument("--no-isolation", action="store_true", help="also without the worker")
    parser.add_argument("--tools", type=Path, help="also llama-server, in this folder")
    parser.add_argument("--peer-python", type=Path, help="also llama-cpp-python's server")
    options = parser.parse_args()
    path = str(hub.resolve(options.model))
    n = 1 if options.first_token else options.clients
    http, own = (http_first, own_first) if options.first_token else (http_speed, own_speed)
    with ExitStack() as stack:
        model = stack.enter_context(LocalModel.from_pretrained(path, n_ctx=N_CTX))
        clients = stack.enter_context(Clients())
        ways = {IN_PROCESS: own(model, options.new_tokens)}
        for server in servers_of(options, path, n_threads(model)):
            progress(f"starting {server.name}")
            stack.enter_context(server)
            ways[server.name] = http(server, clients, options.new_tokens)
        found = rounds_of(ways, options.rounds, n)
        threads = n_threads(model)
    if options.first_token:
        report("serving_first", first_rows(found), options, threads=threads, note=_FIRST_NOTE)
    else:
        note = _NOTE.format(n=n, new=options.new_tokens)
        report("serving", speed_rows(found, "localgen"), options, threads=threads, note=note)


if __name__ == "__main__":
    main()
