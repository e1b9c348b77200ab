"""The gRPC port: opened by one process, or by the workers of one server and nobody else."""

import logging
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress

from convlens.server.errors import StartError
from convlens.server.http2 import GrpcServer
from convlens.server.probe_port import NOT_HERE, bracketed
from convlens.server.settings import Settings
from convlens.server.tls import Certificates

logger = logging.getLogger(__name__)

FREE_PORT_TRIES = 10

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})


def open_port(server: GrpcServer, settings: Settings, shared: Sequence[socket.socket] = ()) -> str:
    """Open the port, with TLS where there are certificates; returns its address, "host:port".

    Args:
        server: that is to answer there.
        settings: its host, port and certificates.
        shared: sockets of the port, bound already, where other processes answer there as well.

    Raises:
        StartError: it is in use, or may not be used; or a certificate cannot be read.
    """
    certificate, key = settings.tls_cert, settings.tls_key
    if (certificate is None) != (key is None) or (settings.tls_client_ca and not certificate):
        raise StartError("TLS needs both --tls-cert and --tls-key")
    tls = None
    if certificate is not None and key is not None:
        tls = Certificates(certificate, key, settings.tls_client_ca).context
    sockets = shared or bound_sockets(settings)
    try:
        server.listen(sockets, tls, shared=bool(shared))
    except OSError as error:  # somebody else began to listen just now
        _close(sockets)
        raise _in_use(settings) from error
    return f"{bracketed(settings.host)}:{sockets[0].getsockname()[1]}"


def bound_sockets(settings: Settings) -> list[socket.socket]:
    """One for each address of the host that this machine has, all with the same port.

    A free port of the first address may be taken on another: then a further one is tried.

    Raises:
        StartError: the port is in use, or may not be used.
    """
    addresses = _addresses(settings)
    for _ in range(FREE_PORT_TRIES if settings.port == 0 else 0):
        with suppress(StartError):
            return _bound_to_all(addresses, settings)
    return _bound_to_all(addresses, settings)


def _bound_to_all(
    addresses: Iterable[tuple[socket.AddressFamily, str]], settings: Settings
) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    port = settings.port
    reason: OSError | None = None
    for family, host in addresses:
        try:
            sockets.append(_bound(family, (host, port)))
        except OSError as error:
            reason = error
            if error.errno not in NOT_HERE:
                _close(sockets)
                raise _in_use(settings) from error
        else:
            port = sockets[0].getsockname()[1]
    if not sockets:
        raise _in_use(settings) from reason
    return sockets


def _bound(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # IPv4 comes in here too, where the address is that of all interfaces.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _close(sockets: Iterable[socket.socket]) -> None:
    for listener in sockets:
        listener.close()


def _addresses(settings: Settings) -> list[tuple[socket.AddressFamily, str]]:
    """Of the host; IPv4 first."""
    try:
        found = socket.getaddrinfo(
            settings.host.strip("[]"), settings.port, type=socket.SOCK_STREAM
        )
    except OSError as error:
        raise StartError(f"--host {settings.host}: {error.strerror}") from error
    return sorted({(family, str(address[0])) for family, _, _, _, address in found})


def warn_if_open(settings: Settings) -> None:
    """Warn where others than this machine's own users can read what is sent."""
    if settings.tls_cert is None and settings.host not in LOOPBACK:
        logger.warning(
            "listening on %s:%d without TLS: whoever can reach it can read what is sent%s",
            bracketed(settings.host),
            settings.port,
            "" if settings.tokens else ", and anybody may call",
        )


def _in_use(settings: Settings) -> StartError:
    return StartError(
        f"--port {settings.port}: cannot listen on {bracketed(settings.host)}:{settings.port}: "
        "it is in use, or not allowed"
    )
