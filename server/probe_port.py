"""The HTTP port for those who watch: /metrics, /livez and /readyz."""

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


class _Handler(WSGIRequestHandler):
    timeout = 10  # a caller that says nothing does not hold the port for ever

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Probes and scrapes come every few seconds: they are not logged."""


class HttpPort:
    """Serves the three pages in a thread of its own.

    Args:
        host: to listen on.
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
            self._server = make_server(host, port, app, _Server, _Handler)
        except OSError as error:
            raise StartError(
                f"--metrics-port {port}: cannot listen on {host}:{port}: {error.strerror}"
            ) from error
        self.metrics_url = f"http://{host}:{self._server.server_port}/metrics"
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)
        self._thread.start()

    def __enter__(self) -> "HttpPort":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _text(start_response: Callable[..., Any], status: str, text: str) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode() + b"\n"]
