"""The socket that the server listens on, opened before a model loads, and its address."""

from __future__ import annotations

import errno
import socket

from localgen.errors import ServeError
from localgen.serve.config import LOOPBACK

# Connections that the system keeps until they are accepted.
BACKLOG = 1024
_EVERY_ADDRESS = {"0.0.0.0": LOOPBACK, "::": "::1"}
# Addresses of documentation, which exist nowhere: to look for the way to them sends nothing.
_FAR_AWAY = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a host and a port; 0 takes a free one. Raises ServeError."""
    family, address = _address(host, port)
    try:
        return socket.create_server(
            address,
            family=family,
            backlog=BACKLOG,
            dualstack_ipv6=address[0] == "::" and _has_both(),
        )
    except OSError as error:
        raise ServeError(_reason(error, host, port)) from None


def url_of(listener: socket.socket) -> str:
    """Return the URL at which this machine reaches a listening socket."""
    host, port = listener.getsockname()[:2]
    return _url(_EVERY_ADDRESS.get(host, host), port)


def reach_of(listener: socket.socket) -> str:
    """Return how other machines reach a listening socket, as the beginning of a sentence."""
    host, port = listener.getsockname()[:2]
    if host not in _EVERY_ADDRESS:
        return f"other machines reach it at {_url(host, port)}"
    everywhere = "it listens on all interfaces"
    is_both = host == "::" and _has_both()
    families = {listener.family, socket.AF_INET} if is_both else {listener.family}
    for family in sorted(families):  # IPv4 first
        if (address := _own_address(family)) is not None:
            return f"{everywhere}; other machines reach it at {_url(address, port)}"
    return everywhere


def _own_address(family: socket.AddressFamily) -> str | None:
    """Return this machine's address in the network that leads to others; None without one."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((_FAR_AWAY[family], 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _address(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """Return the family and the address of a host; of several, an IPv4 one first."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except OSError:
        raise ServeError(
            f"host {host} has no address; use --host with a name or an address of this machine"
        ) from None
    found.sort(key=lambda each: each[0] != socket.AF_INET)
    family, _, _, _, address = found[0]
    return family, (str(address[0]), port)


def _has_both() -> bool:
    return socket.has_dualstack_ipv6()


def _reason(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"cannot listen on {host}:{port}: another program uses this port; choose another one "
            f"with --port, or --port 0 for a free one"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"cannot listen on {host}:{port}: permission denied; use --port with one above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine; choose one with --host"
    return f"cannot listen on {host}:{port}: {error.strerror or error}"
