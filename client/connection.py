"""How a server is reached: its address, TLS, the token."""

import ipaddress
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from convlens.client.errors import ClientError, InvalidArgumentError

DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_TIMEOUT_SECONDS = 30.0
DEFAULT_RETRIES = 5
DEFAULT_CONCURRENCY = 8
MAX_MESSAGE_BYTES = 32 * 1024 * 1024
# What grpc knows beside HOST:PORT.
NAMING_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "vsock:", "xds:")
CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # A server that restarts is found again within a second, not within two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A server whose machine has vanished is given up after 20 to 40 s, not after TCP's quarter of
    # an hour. More pings than these a server may take for abuse.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
)


@dataclass(frozen=True)
class Tls:
    """Certificates for an encrypted connection, as PEM files.

    Attributes:
        ca: who signed the server's certificate; None for those that the system trusts.
        certificate: our own, where the server asks for one.
        key: of our own certificate.

    Raises:
        InvalidArgumentError: there is a certificate without a key, or a key without a certificate.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        # grpc ends the whole process where it is given one of them.
        if (self.certificate is None) != (self.key is None):
            raise InvalidArgumentError(
                "INVALID_ARGUMENT", "TLS needs the certificate and its key together"
            )

    def credentials(self) -> grpc.ChannelCredentials:
        """What a channel is opened with.

        Raises:
            ClientError: a file cannot be read, or is not what it should be.
        """
        try:
            ca, certificate, key = (
                None if file is None else file.read_bytes()
                for file in (self.ca, self.certificate, self.key)
            )
        except OSError as error:
            raise ClientError("INVALID_ARGUMENT", f"{error.filename}: {error.strerror}") from error
        self._check()
        return grpc.ssl_channel_credentials(ca, key, certificate)

    def _check(self) -> None:
        """Let Python read them first: grpc tells its log alone what it cannot use."""
        context = ssl.create_default_context()
        about = f"certificates: {self.ca}"
        try:
            if self.ca is not None:
                context.load_verify_locations(self.ca)
            if self.certificate is not None:
                about = f"a certificate and its key: {self.certificate}, {self.key}"
                context.load_cert_chain(self.certificate, self.key, password="")
        except ssl.SSLError as error:
            raise InvalidArgumentError("INVALID_ARGUMENT", f"not PEM {about}") from error


@dataclass(frozen=True)
class Connection:
    """How a server is reached.

    Attributes:
        address: "host:port".
        tls: the certificates of an encrypted connection; None for a plain one.
        token: that opens the server, where it asks for one.

    Raises:
        InvalidArgumentError: it is no address, or the token cannot be sent.
    """

    address: str = DEFAULT_ADDRESS
    tls: Tls | None = None
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _require_address(self.address)
        token = self.token or ""
        if not (token.isascii() and token.isprintable()):
            raise InvalidArgumentError(
                "INVALID_ARGUMENT", "a token must be one line of printable ASCII characters"
            )

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)


def _require_address(address: str) -> None:
    """Without a port grpc would ask port 443, and of 99999 port 34463."""
    if address.startswith(NAMING_SCHEMES) and address.isprintable():
        return
    match = re.fullmatch(r"(\[[^\s\[\]]+\]|[^\s:/\[\]]+):([0-9]{1,5})", address)
    if match is None or not address.isprintable() or not 0 < int(match[2]) < 65536:
        raise InvalidArgumentError(
            "INVALID_ARGUMENT",
            f"an address must be HOST:PORT, as {DEFAULT_ADDRESS} or [::1]:50051, is {address!a}",
        )


def channel(connection: Connection) -> grpc.Channel:
    """Open a connection for threads.

    Raises:
        ClientError: a certificate's file cannot be read.
    """
    if connection.tls is None:
        return grpc.insecure_channel(connection.address, _options(connection))
    return grpc.secure_channel(
        connection.address, connection.tls.credentials(), _options(connection)
    )


def aio_channel(connection: Connection, *, own: bool = False) -> grpc.aio.Channel:
    """Open a connection for the running event loop.

    Args:
        connection: to open.
        own: share no socket with other channels to the same server.

    Raises:
        ClientError: a certificate's file cannot be read.
    """
    options = (*_options(connection), ("grpc.use_local_subchannel_pool", int(own)))
    if connection.tls is None:
        return grpc.aio.insecure_channel(connection.address, options)
    return grpc.aio.secure_channel(connection.address, connection.tls.credentials(), options)


def _options(connection: Connection) -> tuple[tuple[str, int], ...]:
    """Those of a channel; a proxy that the environment names has a loopback of its own."""
    host = connection.address.rpartition(":")[0].strip("[]")
    return (*CHANNEL_OPTIONS, ("grpc.enable_http_proxy", int(not _is_loopback(host))))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
