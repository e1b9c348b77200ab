"""The HTTP port for those who watch: /metrics, /livez and /readyz."""

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from convlens.server.errors import StartError

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

HEARTBEAT_LIMIT_SECONDS = 10.0
POLL_SECONDS = 0.1  # between two looks at whether the port is to close: as long may closing take

# Errors of an address, or of a kind of address, that this machine does not have.
NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class Probes:
    """What /livez and /readyz ask, from their own thread.

    Live: the event loop has run lately; a loop that hangs is dead although its process is not.
    Ready: models are loaded, and the server is not draining.
    """

    def __init__(self) -> None:
        self.ready = False
        self._last_beat = time.monotonic()

    def beat(self) -> None:
        """Say that the event loop runs."""
        self._last_beat = time.monotonic()

    @property
    def live(self) -> bool:
        """Whether the event loop ran within the last `HEARTBEAT_LIMIT_SECONDS`."""
        return time.monotonic() - self._last_beat < HEARTBEAT_LIMIT_SECONDS


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            # IPv4 comes in here too, where the address is that of all interfaces.
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:  # most likely there are too many open files: who waits goes on waiting
            time.sleep(POLL_SECONDS)
            raise


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = 10  # a caller that says nothing does not hold the port for ever

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Probes and scrapes come every few seconds: they are not logged."""


class HttpPort:
    """Serves the three pages in a thread of its own.

    Args:
        host: to listen on, at each of its addresses that this machine has.
        port: 0 takes a free one.
        registry: what /metrics shows.
        probes: what /livez and /readyz ask.

    Raises:
        StartError: the host is unknown; or the port is in use, or may not be used.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, probes: Probes) -> None:
        metrics = make_wsgi_app(registry)
        verdicts = {
            "/livez": lambda: probes.live,
            "/readyz": lambda: probes.ready and probes.live,
        }

        def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            path = environ["PATH_INFO"]
            if path == "/metrics":
                pages: Iterable[bytes] = metrics(environ, start_response)
                return pages
            if path not in verdicts:
                return _text(start_response, "404 Not Found", "there are /metrics, /livez, /readyz")
            if verdicts[path]():
                return _text(start_response, "200 OK", "ok")
            return _text(start_response, "503 Service Unavailable", "no")

        self._servers = _open_all(host, port, app)
        port = self._servers[0].server_port
        self.metrics_url = f"http://{bracketed(host)}:{port}/metrics"
        for server in self._servers:
            threading.Thread(
                target=server.serve_forever, args=(POLL_SECONDS,), name="http", daemon=True
            ).start()

    def __enter__(self) -> "HttpPort":
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


def bracketed(host: str) -> str:
    """As a host stands before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _open_all(host: str, port: int, app: "WSGIApplication") -> list[WSGIServer]:
    """One server for each address of the host; a free port is the same at all of them."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise StartError(f"--metrics-host {host}: {error.strerror}") from error
    servers: list[WSGIServer] = []
    reason: OSError | None = None
    for family, address in sorted({(int(it[0]), str(it[4][0])) for it in found}):  # IPv4 first
        kind = _Server6 if family == socket.AF_INET6 else _Server
        try:
            servers.append(make_server(address, port, app, kind, _Handler))
        except OSError as error:
            reason = error
            if error.errno not in NOT_HERE:
                break
        else:
            port = servers[0].server_port
    else:
        if servers:
            return servers
    for server in servers:
        server.server_close()
    assert reason is not None
    raise StartError(
        f"--metrics-port {port}: cannot listen on {bracketed(host)}:{port}: {reason.strerror}"
    ) from reason


def _text(start_response: Callable[..., Any], status: str, text: str) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode() + b"\n"]
