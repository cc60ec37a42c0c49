"""``localgen serve``: an HTTP server that speaks OpenAI's API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from localgen._util.format import some_of
from localgen.cli.files import read_file
from localgen.cli.option_groups import with_options
from localgen.cli.options import MODEL_FORMS, LoadingOptions, MaxSequences, UseProfile
from localgen.cli.serve_options import ServeOptions
from localgen.config import ModelConfig
from localgen.serve import check_installed
from localgen.serve.config import is_loopback
from localgen.serve.served_model import check_names, parse_model

if TYPE_CHECKING:
    from localgen.serve.config import ServeConfig

_MODEL = ModelConfig()
# A reply is seldom longer, and a client that states no limit means none.
_RESERVED_NEW_TOKENS = 256


@with_options
def serve(
    *,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            help=f"Serve these: {MODEL_FORMS}. NAME=MODEL gives one another name, NAME,NAME=MODEL "
            f"several.",
        ),
    ],
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            "--api-key",
            metavar="KEY",
            envvar="LOCALGEN_API_KEY",
            help="Answer only requests with this key; can be repeated, and the variable can hold "
            "several, separated by spaces.",
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Read keys from a file, one a line; # begins a comment."),
    ] = None,
    server: ServeOptions,
    loading: LoadingOptions,
    profile: UseProfile = True,
    max_sequences: MaxSequences = _MODEL.max_sequences,
    reserved_new_tokens: Annotated[
        int | None,
        typer.Option(
            help="Give a text room in the KV cache for this many new tokens at a time.",
            show_default=f"{_RESERVED_NEW_TOKENS}; all with --deterministic",
        ),
    ] = None,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic",
            help="Compute texts one at a time: a request then always gets the same text.",
        ),
    ] = False,
) -> None:
    """Serve models over HTTP, with OpenAI's API and a page to chat.

    The first model is loaded at the start, the others when a request names them. Only this machine
    reaches the server unless --host says otherwise, which needs --api-key or --no-auth. Ctrl-C or
    SIGTERM ends it after the requests that run.
    """
    if reserved_new_tokens is None and not deterministic:
        reserved_new_tokens = _RESERVED_NEW_TOKENS
    shared = {
        "max_sequences": max_sequences,
        "reserved_new_tokens": reserved_new_tokens,
        "deterministic": deterministic,
    }
    loading.config(**shared)
    n_together = 1 if deterministic else max_sequences
    config = server.config(n_together, api_keys=_keys(api_key, api_key_file))
    check_names(parse_model(text) for text in models)
    check_installed()
    from localgen.serve.listening import listen, reach_of  # noqa: PLC0415  # needs the extra
    from localgen.serve.models import make_pool  # noqa: PLC0415
    from localgen.serve.run import log_to_stderr, serve_on  # noqa: PLC0415

    log_to_stderr()
    with listen(config.host, config.port) as listener:
        options = {**loading.given(), **shared}
        pool = make_pool(models, config, options, use_profile=profile)
        names = [model.name for model in pool.names.models]
        reach = reach_of(listener)
        serve_on(listener, pool, config, lambda url: _say_started(url, reach, names, config))


def _keys(given: list[str] | None, file: Path | None) -> tuple[str, ...]:
    """Return the keys that were typed and those of a file. Raises ValueError."""
    keys = list(given or ())
    if file is not None:
        lines = [line.strip() for line in read_file("--api-key-file", file).splitlines()]
        found = [line for line in lines if line and not line.startswith("#")]
        if not found:
            raise ValueError(f"--api-key-file {file} holds no key")
        keys += found
    return tuple(dict.fromkeys(keys))


def _say_started(url: str, reach: str, names: list[str], config: ServeConfig) -> None:
    """Print where the server is, so that a program that started it can read the port.

    reach: how other machines reach it.
    """
    print(f"localgen serves {some_of(names, 'model')} at {url}", flush=True)
    print(f"  OpenAI's API is at {url}/v1, a page to chat at {url}/, Ctrl-C stops it", flush=True)
    if not is_loopback(config.host):
        who = "whoever has a key" if config.api_keys else "anyone, without a key"
        print(f"  {reach}: {who} may use it", flush=True)
