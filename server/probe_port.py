"""The HTTP port for those who watch: /metrics, /livez and /readyz."""

import socket
import threading
import time
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from convlens.server.errors import StartError

HEARTBEAT_LIMIT_SECONDS = 10.0


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


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = 10  # a caller that says nothing does not hold the port for ever

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Probes and scrapes come every few seconds: they are not logged."""


class HttpPort:
    """Serves the three pages in a thread of its own.

    Args:
        host: to listen on; IPv4 where it has addresses of both kinds.
        port: 0 takes a free one.
        registry: what /metrics shows.
        probes: what /livez and /readyz ask.

    Raises:
        StartError: the port is in use, or may not be used.
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

        try:
            family, address = _first_address(host)
            kind = _Server6 if family == socket.AF_INET6 else _Server
            self._server = make_server(address, port, app, kind, _Handler)
        except OSError as error:
            raise StartError(
                f"--metrics-port {port}: cannot listen on {bracketed(host)}:{port}: "
                f"{error.strerror}"
            ) from error
        self.metrics_url = f"http://{bracketed(host)}:{self._server.server_port}/metrics"
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)
        self._thread.start()

    def __enter__(self) -> "HttpPort":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def bracketed(host: str) -> str:
    """As a host stands before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _first_address(host: str) -> tuple[int, str]:
    found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    return min((int(family), str(address[0])) for family, _, _, _, address in found)


def _text(start_response: Callable[..., Any], status: str, text: str) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode() + b"\n"]
