"""Addresses that are printed are those that a person can open."""

from __future__ import annotations

import socket

import pytest

from localgen.serve import listening
from localgen.serve.listening import listen, reach_of, url_of


def test_a_socket_on_one_address_is_reached_there() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://127.0.0.1:{port}"
        assert reach_of(listener) == f"other machines reach it at http://127.0.0.1:{port}"


@pytest.mark.parametrize("host", ["0.0.0.0", "0"])
def test_a_socket_on_all_interfaces_has_an_address_for_each_side(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.0.0.0 is no address that a browser on another machine can open."""
    monkeypatch.setattr(listening, "_own_address", lambda _: "192.168.1.7")
    with listen(host, 0) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://127.0.0.1:{port}"
        assert reach_of(listener) == (
            f"it listens on all interfaces; other machines reach it at http://192.168.1.7:{port}"
        )


def test_without_a_network_no_address_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_own_address", lambda _: None)
    with listen("0.0.0.0", 0) as listener:
        assert reach_of(listener) == "it listens on all interfaces"


def test_the_own_address_is_one_of_this_machine() -> None:
    found = listening._own_address(socket.AF_INET)
    if found is not None:
        with listen(found, 0) as listener:
            assert listener.getsockname()[0] == found


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs both families on one socket")
@pytest.mark.parametrize("host", ["::", "[::]", "::0"])
def test_every_spelling_of_all_addresses_takes_both_families(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {socket.AF_INET: "10.0.0.7", socket.AF_INET6: "fd00::7"}
    monkeypatch.setattr(listening, "_own_address", own.get)
    with listen(host, 0) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://[::1]:{port}"
        assert reach_of(listener).endswith(f"http://10.0.0.7:{port}")
        with socket.create_connection(("127.0.0.1", port), timeout=10):
            pass
