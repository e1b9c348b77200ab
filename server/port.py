"""The gRPC port: opened by one process, or by the workers of one server and nobody else."""

import errno
import logging
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from convlens.server.errors import StartError
from convlens.server.http2 import GrpcServer
from convlens.server.settings import Settings
from convlens.server.tls import Certificates

logger = logging.getLogger(__name__)

# Errors of an address, or of a kind of address, that this machine does not have.
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

FREE_PORT_TRIES = 10

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


def open_port(server: GrpcServer, settings: Settings) -> str:
    """Open the port, with TLS where there are certificates; returns its address, "host:port".

    Raises:
        StartError: it is in use, or may not be used; or a certificate cannot be read.
    """
    certificate, key = settings.tls_cert, settings.tls_key
    if (certificate is None) != (key is None) or (settings.tls_client_ca and not certificate):
        raise StartError("TLS needs both --tls-cert and --tls-key")
    tls = None
    if certificate is not None and key is not None:
        tls = Certificates(certificate, key, settings.tls_client_ca).context
    sockets = _bound_sockets(settings, shared=settings.workers > 1)
    try:
        server.listen(sockets, tls)
    except OSError as error:  # somebody else began to listen just now
        _close(sockets)
        raise _in_use(settings) from error
    return f"{settings.host}:{sockets[0].getsockname()[1]}"


def _bound_sockets(settings: Settings, *, shared: bool) -> list[socket.socket]:
    """One for each address of the host that this machine has, all with the same port.

    A free port of the first address may be taken on another: then a further one is tried.
    """
    addresses = _addresses(settings)
    for _ in range(FREE_PORT_TRIES if settings.port == 0 else 0):
        with suppress(StartError):
            return _bound_to_all(addresses, settings, shared=shared)
    return _bound_to_all(addresses, settings, shared=shared)


def _bound_to_all(
    addresses: Iterable[tuple[socket.AddressFamily, str]], settings: Settings, *, shared: bool
) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    port = settings.port
    reason: OSError | None = None
    for family, host in addresses:
        try:
            sockets.append(_bound(family, (host, port), shared=shared))
        except OSError as error:
            reason = error
            if error.errno not in _NOT_HERE:
                _close(sockets)
                raise _in_use(settings) from error
        else:
            port = sockets[0].getsockname()[1]
    if not sockets:
        raise _in_use(settings) from reason
    return sockets


def _bound(
    family: socket.AddressFamily, address: tuple[str, int], *, shared: bool
) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            # Among the workers of one server alone: another would share the port in silence.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
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
        raise _in_use(settings) from error
    return sorted({(family, str(address[0])) for family, _, _, _, address in found})


@contextmanager
def reserved_port(settings: Settings) -> Iterator[int]:
    """Hold the port for the workers, so that no other server gets it; yields its number.

    Its sockets take the port for themselves, which fails where anybody listens, and only then allow
    others, those with the same option and the same user, beside them. They never listen:
    connections go to the workers alone.

    Raises:
        StartError: it is in use, or may not be used.
    """
    holders = _bound_sockets(settings, shared=False)
    try:
        for holder in holders:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        number: int = holders[0].getsockname()[1]
        yield number
    finally:
        _close(holders)


def warn_if_open(settings: Settings) -> None:
    """Warn where others than this machine's own users can read what is sent."""
    if settings.tls_cert is None and settings.host not in LOOPBACK:
        logger.warning(
            "listening on %s:%d without TLS: whoever can reach it can read what is sent%s",
            settings.host,
            settings.port,
            "" if settings.tokens else ", and anybody may call",
        )


def _in_use(settings: Settings) -> StartError:
    return StartError(
        f"--port {settings.port}: cannot listen on {settings.host}:{settings.port}: "
        "it is in use, or not allowed"
    )
