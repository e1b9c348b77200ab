"""The gRPC port: opened by one process, or by the workers of one server and nobody else."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from convlens.server.errors import StartError
from convlens.server.settings import Settings
from convlens.server.tls import Certificates

logger = logging.getLogger(__name__)

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


def open_port(server: grpc.aio.Server, settings: Settings) -> str:
    """Open the port, with TLS where there are certificates; returns its address, "host:port".

    Raises:
        StartError: it is in use, or may not be used; or a certificate cannot be read.
    """
    address = f"{settings.host}:{settings.port}"
    certificate, key = settings.tls_cert, settings.tls_key
    if (certificate is None) != (key is None) or (settings.tls_client_ca and not certificate):
        raise StartError("TLS needs both --tls-cert and --tls-key")
    try:
        if certificate is not None and key is not None:
            files = Certificates(certificate, key, settings.tls_client_ca)
            number = server.add_secure_port(address, files.credentials())
        else:
            number = server.add_insecure_port(address)
    except RuntimeError as error:
        raise _in_use(settings) from error
    return f"{settings.host}:{number}"


@contextmanager
def reserved_port(settings: Settings) -> Iterator[int]:
    """Hold the port for the workers, so that no other server gets it; yields its number.

    The socket takes the port for itself, which fails where anybody listens, and only then allows
    others, those with the same option and the same user, beside it. It never listens: connections
    go to the workers alone.

    Raises:
        StartError: it is in use, or may not be used.
    """
    host = settings.host.strip("[]")
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, settings.port, type=socket.SOCK_STREAM
        )[0]
        holder = socket.socket(family, kind)
    except OSError as error:
        raise _in_use(settings) from error
    with holder:
        try:
            # Connections that the port's former owner closed may linger; they are in nobody's way.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(address)
        except OSError as error:
            raise _in_use(settings) from error
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        number: int = holder.getsockname()[1]
        yield number


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
