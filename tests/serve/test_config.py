"""What the server may be asked for, and what is refused before a model loads."""

from __future__ import annotations

from typing import Any

import pytest

from localgen.serve.config import ServeConfig, is_loopback


def test_the_default_is_reached_by_this_machine_alone_and_needs_no_key() -> None:
    config = ServeConfig()
    assert is_loopback(config.host)
    assert not config.api_keys
    assert not config.cors_origins


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.8.9.1", "::1", "[::1]"]
)
def test_loopback(host: str) -> None:
    assert is_loopback(host)
    ServeConfig(host=host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "box", "localhost.example.org"])
def test_another_host_needs_a_key_or_an_explicit_no(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ValueError, match=r"needs a key: pass api_keys, or no_auth"):
        ServeConfig(host=host)
    ServeConfig(host=host, api_keys=("secret",))
    ServeConfig(host=host, no_auth=True)


def test_a_key_and_no_key_together_are_refused() -> None:
    with pytest.raises(ValueError, match="no_auth cannot be used with api_keys"):
        ServeConfig(no_auth=True, api_keys=("secret",))


@pytest.mark.parametrize("key", ["", "two words", "gehëim", "line\nend"])
def test_neither_an_error_nor_a_repr_shows_a_key(key: str) -> None:
    with pytest.raises(ValueError, match="key 2 of 2") as caught:
        ServeConfig(api_keys=("fine", key))
    assert "fine" not in str(caught.value)
    assert key == "" or key not in str(caught.value)
    assert "secret" not in repr(ServeConfig(api_keys=("secret",)))


@pytest.mark.parametrize(
    "origin", ["https://app.example", "http://localhost:3000", "vscode-webview://0a1b"]
)
def test_origins(origin: str) -> None:
    assert ServeConfig(cors_origins=(origin,)).cors_origins == (origin,)


@pytest.mark.parametrize("origin", ["app.example", "https://a/b", "https://*.example", "null", ""])
def test_what_no_browser_sends_as_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="must hold origins such as"):
        ServeConfig(cors_origins=(origin,))


def test_every_origin_stands_alone() -> None:
    assert ServeConfig(cors_origins=("*",)).cors_origins == ("*",)
    with pytest.raises(ValueError, match=r"or \* alone"):
        ServeConfig(cors_origins=("*", "https://app.example"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", 65536), ("max_waiting", -1), ("request_timeout", -1.0), ("max_body_bytes", 10),
     ("idle_unload", 0.0), ("allowed_hosts", ("a/b",)), ("host", "http://x"), ("preload", 1)],
)  # fmt: skip
def test_a_bad_value_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        ServeConfig(**{name: value})


def test_no_limit_of_time_is_zero() -> None:
    assert ServeConfig(request_timeout=0).deadline_seconds is None
    assert ServeConfig(request_timeout=5).deadline_seconds == 5


def test_prompts_are_logged_to_a_log_only() -> None:
    with pytest.raises(ValueError, match="log_prompts needs the access log"):
        ServeConfig(log_prompts=True, access_log=False)
