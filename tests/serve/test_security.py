"""Attacks by web pages and by those without a key, and that everybody else gets through."""

from __future__ import annotations

from typing import Any

import pytest

from localgen.serve.client import client_of
from localgen.serve.config import ServeConfig
from localgen.serve.security import HostCheck, KeyCheck, OriginCheck, host_of
from tests.serve.asgi import Answer, Echo, call


def host_status(host: str | None, config: ServeConfig | None = None) -> int:
    return call(HostCheck(Echo(), config or ServeConfig()), host=host).status


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "LocalHost.:1", "[::1]"]
)
def test_loopback_names_reach_a_server_on_loopback(host: str) -> None:
    assert host_status(host) == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "localhost.evil.example", "192.168.1.5", "", None,
     "localhost@evil.example", "localhost:8080/x", "localhost:x", "0x7f.1", "127.0.0.1.nip.io",
     "[::1", "localhost evil", "a" * 100_000],
)  # fmt: skip
def test_a_name_that_a_page_controls_does_not(host: str | None) -> None:
    assert host_status(host) == 403


def test_the_refusal_says_what_to_do_and_reaches_no_endpoint() -> None:
    app = Echo()
    answer = call(HostCheck(app, ServeConfig()), host="evil.example")
    assert "--allowed-host NAME" in answer.error["message"]
    assert answer.error["code"] == "host_not_allowed"
    assert not app.n_reached


def test_two_host_headers_are_none() -> None:
    answer = call(HostCheck(Echo(), ServeConfig()), headers=[("host", "evil.example")])
    assert answer.status == 403


def test_a_server_for_other_machines_takes_addresses_and_the_names_it_was_given() -> None:
    everywhere = ServeConfig(host="0.0.0.0", no_auth=True, allowed_hosts=("box.example",))
    for host in ("192.168.1.5:8080", "[fd00::1]:8080", "127.0.0.1", "BOX.example:8080"):
        assert host_status(host, everywhere) == 200
    assert host_status("other.example", everywhere) == 403
    assert host_status("box:1", ServeConfig(host="box", no_auth=True)) == 200


def test_host_of() -> None:
    assert host_of("[FE80::1]:80") == "fe80::1"
    assert host_of("Box.") == "box"
    assert host_of("a:b:c") is None


# --- Origin ---


def asked_by(origin: str, *, method: str = "POST", more: Any = None, **options: Any) -> Answer:
    headers = {"origin": origin, **(more or {})}
    return call(OriginCheck(Echo(), ServeConfig(**options)), method, headers=headers)


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1", "",
     "localhost", "http://localhost.evil.example", "http://evil.example/localhost"],
)  # fmt: skip
def test_pages_of_other_sites_are_refused_without_cors(origin: str) -> None:
    answer = asked_by(origin)
    assert answer.status == 403
    assert answer.error["code"] == "origin_not_allowed"
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_the_servers_own_page_and_programs_are_not() -> None:
    assert asked_by("http://localhost").status == 200
    assert asked_by("HTTPS://LOCALHOST").status == 200  # behind a proxy
    assert call(OriginCheck(Echo(), ServeConfig()), "POST").status == 200


def test_two_origins_are_refused() -> None:
    headers = [("origin", "http://localhost"), ("origin", "https://evil.example")]
    assert call(OriginCheck(Echo(), ServeConfig()), "POST", headers=headers).status == 403


def test_pages_of_an_allowed_origin_get_cors_and_others_are_refused() -> None:
    origins = ("https://app.example",)
    answer = asked_by("https://app.example", cors_origins=origins)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert answer.headers["vary"] == "origin"
    assert asked_by("https://evil.example", cors_origins=origins).status == 403
    answer = asked_by("https://any.example", cors_origins=("*",))
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers


def test_what_a_browser_asks_first_is_answered_without_reaching_an_endpoint() -> None:
    more = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-os",
        "access-control-request-private-network": "true",
    }
    origin, origins = "https://app.example", ("https://app.example",)
    answer = asked_by(origin, method="OPTIONS", more=more, cors_origins=origins)
    assert answer.status == 204
    asked = more["access-control-request-headers"]
    assert answer.headers["access-control-allow-headers"] == asked
    assert answer.headers["access-control-allow-private-network"] == "true"
    assert asked_by("https://evil.example", method="OPTIONS", more=more).status == 403


def test_a_browsers_question_cannot_put_headers_into_the_answer() -> None:
    more = {"access-control-request-method": "POST", "access-control-request-headers": "a\r\nb: c"}
    answer = asked_by("https://a.b", method="OPTIONS", more=more, cors_origins=("https://a.b",))
    assert "access-control-allow-headers" not in answer.headers


# --- keys ---

KEYS = ServeConfig(api_keys=("first-key", "second-key"))


@pytest.mark.parametrize("text", ["Bearer first-key", "bearer second-key", "BEARER  second-key "])
def test_each_key_is_accepted(text: str) -> None:
    assert call(KeyCheck(Echo(), KEYS), headers={"authorization": text}).status == 200


@pytest.mark.parametrize(
    "text",
    ["Bearer first-ke", "Bearer first-keyy", "Bearer", "Bearer ", "first-key", "Basic first-key",
     "Bearer first-key,second-key", "Bearer \xff"],
)  # fmt: skip
def test_no_other_text_is(text: str) -> None:
    app = Echo()
    answer = call(KeyCheck(app, KEYS), headers={"authorization": text})
    assert answer.status == 401
    assert answer.error["code"] == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "first-key" not in answer.body.decode()
    assert not app.n_reached


def test_a_request_without_a_key_is_told_how_to_send_one() -> None:
    answer = call(KeyCheck(Echo(), KEYS))
    assert "Authorization: Bearer KEY" in answer.error["message"]


def test_two_keys_at_once_are_none() -> None:
    both = [("authorization", f"Bearer {key}") for key in KEYS.api_keys]
    assert call(KeyCheck(Echo(), KEYS), headers=both).status == 401


@pytest.mark.parametrize("path", ["/", "/compare", "/health"])
def test_the_page_and_the_health_need_no_key(path: str) -> None:
    assert call(KeyCheck(Echo(), KEYS), path=path).status == 200


@pytest.mark.parametrize("path", ["/metrics", "/v1/models", "//", "/health/", "/HEALTH", "/v1"])
def test_everything_else_does(path: str) -> None:
    assert call(KeyCheck(Echo(), KEYS), path=path).status == 401


def test_a_client_is_its_key_or_else_its_address() -> None:
    app = Echo()
    call(KeyCheck(app, KEYS), headers={"authorization": "Bearer second-key"})
    assert client_of(app.scope) == "key-2"
    call(KeyCheck(app, ServeConfig()))
    assert client_of(app.scope) == "127.0.0.1"


def test_every_key_is_compared_whatever_the_first_comparison_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[bytes] = []

    def compare(given: bytes, key: bytes) -> bool:
        compared.append(key)
        return given == key

    monkeypatch.setattr("hmac.compare_digest", compare)
    assert call(KeyCheck(Echo(), KEYS), headers={"authorization": "Bearer first-key"}).status == 200
    assert len(compared) == 2
