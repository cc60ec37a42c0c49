"""ServeConfig: every option of the server, once. It knows what is allowed, not how it is done."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from localgen._util.checks import check_bool
from localgen._util.option_fields import check_fields, integer, number, option, optional

LOOPBACK = "127.0.0.1"
MAX_SECONDS = 86_400.0  # a day
_NO_LIMIT = "0 for no limit"
# What a browser sends as Origin: scheme, host and optionally a port, without a path. Programs made
# of web pages have schemes of their own, such as vscode-webview:// or chrome-extension://.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@*]+", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]+")
# A key is sent in a header.
_KEY = re.compile(r"[\x21-\x7e]+")


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a host of this name or address."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _check_host(name: str, value: object) -> str:
    if not isinstance(value, str) or not _HOST.fullmatch(value):
        raise ValueError(f"{name} must be a name or an address without a port, got {value!r:.80}")
    return value


def _checked_texts(
    name: str, value: object, pattern: re.Pattern[str], form: str
) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{name} must be a list of texts")
    texts = tuple(value)
    for text in texts:
        if not isinstance(text, str) or not pattern.fullmatch(text):
            raise ValueError(f"{name} must hold {form}, got {text!r:.80}")
    return texts


def _check_hosts(name: str, value: object) -> tuple[str, ...]:
    form = "names or addresses, without a port"
    return tuple(text.lower() for text in _checked_texts(name, value, _HOST, form))


def _check_origins(name: str, value: object) -> tuple[str, ...]:
    """``*`` alone is every origin."""
    texts = (value,) if isinstance(value, str) else value
    if isinstance(texts, tuple | list) and list(texts) == ["*"]:
        return ("*",)
    form = "origins such as https://app.example:8443, or * alone for every one"
    return tuple(text.lower() for text in _checked_texts(name, texts, _ORIGIN, form))


def _check_keys(name: str, value: object) -> tuple[str, ...]:
    """An error never shows a key."""
    texts = (value,) if isinstance(value, str) else value
    keys = tuple(texts) if isinstance(texts, Iterable) else (None,)
    for n, key in enumerate(keys, 1):
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise ValueError(
                f"{name} must hold keys of printable ASCII characters without spaces; "
                f"key {n} of {len(keys)} is empty or has others"
            )
    return keys


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """How the server listens, whom it answers, and what it allows.

    host, port: where it listens; port 0 takes a free one. A host that other machines reach needs
    ``api_keys`` or ``no_auth``.
    api_keys: any of them is accepted, as ``Authorization: Bearer KEY``. no_auth: serve other
    machines without a key.
    allowed_hosts: further names that the Host header may have, beside the loopback names and
    ``host``; "*" is not one of them. cors_origins: web pages of these origins may use the server;
    ``("*",)`` is every page.
    max_running: rows (one for each text of a request) that are computed at a time; None is what
    ``max_sequences`` of a model is by default. max_waiting: requests that may wait for a place; a
    further one is answered with 429. max_rows: texts of one request.
    request_timeout: seconds from when a request has arrived to the end of its answer. One that then
    still waits is answered with 503; one that runs ends with what it has. 0 is no limit.
    sse_keep_alive_interval: seconds of silence after which a stream sends a comment, also while its
    request waits; 0 is never.
    body_timeout: seconds for a request's body to arrive. max_body_bytes: its size. max_messages: of
    a chat. max_prompt_chars: the characters of all its messages together, or of all prompts.
    any_model_name: a request for a model that is not here gets the first one, not a 404.
    preload: load the first model when the server starts; the others are loaded at need.
    idle_unload: unload a model that nobody used for this many seconds; None is never. max_loaded:
    models in memory at a time; None is as many as fit.
    isolated: run each model in a process of its own, which may crash without the server.
    access_log: write a line for each request. log_prompts: with the request's body.
    shutdown_seconds: how long requests that run may take after SIGTERM or Ctrl-C.
    """

    host: str = option(LOOPBACK, _check_host, help="Listen on this name or address.")
    port: int = option(8080, integer(0, 65535), help="Listen on this port; 0 takes a free one.")
    api_keys: tuple[str, ...] = option((), _check_keys, is_secret=True)
    no_auth: bool = option(
        False, check_bool, help="Serve other machines without a key. Anyone who reaches it uses it."
    )
    allowed_hosts: tuple[str, ...] = option(
        (),
        _check_hosts,
        help="Accept this name in the Host header, too; can be repeated.",
        metavar="NAME",
    )
    cors_origins: tuple[str, ...] = option(
        (),
        _check_origins,
        help="Let web pages of this origin use the server, * for all; can be repeated.",
        metavar="ORIGIN",
    )
    max_running: int | None = option(
        None,
        optional(integer(1, 256)),
        help="Compute at most this many texts at a time.",
        shown="as --max-sequences; 1 with --deterministic",
    )
    max_waiting: int = option(
        128, integer(0, 100_000), help="Let at most this many requests wait; more get a 429."
    )
    max_rows: int = option(
        64, integer(1, 4096), help="Refuse requests for more texts than this (prompts times n)."
    )
    request_timeout: float = option(
        600.0,
        number("at least 0", 0.0, MAX_SECONDS),
        help=f"End a request after this many seconds; {_NO_LIMIT}.",
    )
    sse_keep_alive_interval: float = option(
        15.0,
        number("at least 0", 0.0, MAX_SECONDS),
        help="Send a comment in a stream that is silent for this many seconds; 0 for never.",
    )
    body_timeout: float = option(
        30.0,
        number("above 0", 1e-3, MAX_SECONDS),
        help="Refuse a body that has not arrived after this many seconds.",
    )
    max_body_bytes: int = option(
        2**24, integer(1024, 2**30), help="Refuse bodies of more bytes than this."
    )
    max_messages: int = option(
        2048, integer(1, 2**20), help="Refuse chats of more messages than this."
    )
    max_prompt_chars: int = option(
        2**20,
        integer(1, 2**30),
        help="Refuse messages, or prompts, that together have more characters than this.",
    )
    any_model_name: bool = option(
        False, check_bool, help="Take a model name that is not known for the first model."
    )
    preload: bool = option(
        True, check_bool, help="Load the first model at the start, not with its first request."
    )
    idle_unload: float | None = option(
        None,
        optional(number("above 0", 1e-3, MAX_SECONDS * 365)),
        help="Unload a model that was not used for this many seconds.",
        shown="never",
    )
    max_loaded: int | None = option(
        None,
        optional(integer(1, 1024)),
        help="Keep at most this many models in memory.",
        shown="as many as fit",
    )
    isolated: bool = option(
        True, check_bool, help="Run each model in a process of its own, which may crash alone."
    )
    access_log: bool = option(True, check_bool, help="Write a line for each request to stderr.")
    log_prompts: bool = option(
        False, check_bool, help="Write the bodies of requests to the log, prompts included."
    )
    shutdown_seconds: float = option(
        30.0,
        number("at least 0", 0.0, MAX_SECONDS),
        help="At the end, let running requests take this many seconds.",
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.no_auth and self.api_keys:
            raise ValueError("no_auth cannot be used with api_keys: leave out one of them")
        if not (is_loopback(self.host) or self.api_keys or self.no_auth):
            raise ValueError(
                f"host={self.host} is reached by other machines, so it needs a key: pass api_keys, "
                f"or no_auth to let anyone who reaches it use it"
            )
        if self.log_prompts and not self.access_log:
            raise ValueError("log_prompts needs the access log: leave out access_log=False")

    @property
    def keep_alive_seconds(self) -> float | None:
        """The seconds after which a silent stream sends a comment; None is never."""
        return self.sse_keep_alive_interval or None

    @property
    def deadline_seconds(self) -> float | None:
        """The seconds that a request may take; None is no limit."""
        return self.request_timeout or None
