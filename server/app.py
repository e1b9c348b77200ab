"""The server as a whole: its parts are started in order and stopped in reverse."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc
import prometheus_client
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from PIL import Image

from convlens.proto import (
    classifier_pb2,
    classifier_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
)
from convlens.server.access import Tokens
from convlens.server.classifier import ClassifierServicer
from convlens.server.errors import StartError
from convlens.server.health import Health
from convlens.server.http import HttpPort, Probes
from convlens.server.inference_service import InferenceServicer
from convlens.server.interceptor import Edge
from convlens.server.metrics import Metrics
from convlens.server.repository import Repository
from convlens.server.session import choose_provider
from convlens.server.settings import Settings
from convlens.server.tls import Certificates
from convlens.server.version import State
from convlens.server.watcher import watch

logger = logging.getLogger(__name__)

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})

SERVICES = (
    classifier_pb2.DESCRIPTOR.services_by_name["Classifier"].full_name,
    inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name,
    health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
    reflection.SERVICE_NAME,
)


@dataclass(frozen=True)
class Ready:
    """What the server says of itself once it answers.

    Attributes:
        address: of the gRPC server, "host:port".
        metrics_url: of /metrics.
        provider: what runs the models.
        models: the names of those that can be asked.
        failed: name and reason of those that are not.
    """

    address: str
    metrics_url: str
    provider: str
    models: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]


def run(settings: Settings, on_ready: Callable[[Ready], None]) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight; a second signal stops at once.

    Args:
        settings: of the server.
        on_ready: is called once, when requests are answered.

    Raises:
        StartError: the server cannot start.
    """
    try:
        import uvloop
    except ImportError:  # not to be had on Windows
        asyncio.run(serve(settings, on_ready))
    else:
        uvloop.run(serve(settings, on_ready))


async def serve(settings: Settings, on_ready: Callable[[Ready], None]) -> None:
    """Serve in the running event loop; see `run`."""
    _configure_libraries()
    stop = _stop_signals()
    provider = choose_provider(settings.provider)
    metrics, probes = Metrics(), Probes()
    health = Health(probes)
    repository = Repository(settings, provider, metrics, health.model_changed)
    server = _make_server(settings, repository, metrics, health)
    address = f"{settings.host}:{_bind(server, settings)}"
    http = HttpPort(settings.host, settings.metrics_port, metrics.registry, probes)
    background = [asyncio.create_task(_beat(probes))]
    try:
        await health.starting()
        await server.start()
        if await _either(repository.start(), stop):
            await health.started()
            if settings.watch:
                background.append(asyncio.create_task(watch(settings.models, repository.refresh)))
            on_ready(_describe(repository, address, f"{settings.host}:{http.port}", provider))
            await stop.wait()
        await health.stopping()
        logger.info("stopping: requests in flight have %g s to finish", settings.grace_seconds)
        stop.clear()
        if not await _either(server.stop(settings.grace_seconds), stop):
            logger.warning("stopping at once")
    finally:
        await server.stop(0)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await repository.close()
        http.close()


def _configure_libraries() -> None:
    Image.MAX_IMAGE_PIXELS = None  # the limit is ours: `Settings.max_pixels`
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


def _stop_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def _make_server(
    settings: Settings, repository: Repository, metrics: Metrics, health: Health
) -> grpc.aio.Server:
    tokens = Tokens.read(settings.tokens) if settings.tokens else None
    server = grpc.aio.server(
        interceptors=[
            Edge(
                metrics,
                tokens,
                settings.access_log,
                clients_apart=bool(settings.max_in_flight_per_client),
            )
        ],
        options=[
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.so_reuseport", 0),  # else a second server would share the port in silence
        ],
    )
    classifier_pb2_grpc.add_ClassifierServicer_to_server(
        ClassifierServicer(repository, settings.stream_window), server
    )
    inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
        InferenceServicer(repository, health.probes, settings.stream_window), server
    )
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    reflection.enable_server_reflection(SERVICES, server)
    return server


def _bind(server: grpc.aio.Server, settings: Settings) -> int:
    """Open the port, with TLS where there are certificates; returns its number."""
    address = f"{settings.host}:{settings.port}"
    certificate, key = settings.tls_cert, settings.tls_key
    if (certificate is None) != (key is None) or (settings.tls_client_ca and not certificate):
        raise StartError("TLS needs both --tls-cert and --tls-key")
    try:
        if certificate is not None and key is not None:
            files = Certificates(certificate, key, settings.tls_client_ca)
            return server.add_secure_port(address, files.credentials())
        if settings.host not in LOOPBACK:
            logger.warning(
                "listening on %s without TLS: whoever can reach it can read what is sent%s",
                address,
                "" if settings.tokens else ", and anybody may call",
            )
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise StartError(
            f"--port {settings.port}: cannot listen on {address}: it is in use, or not allowed"
        ) from error


async def _beat(probes: Probes) -> None:
    while True:
        probes.beat()
        await asyncio.sleep(1.0)


async def _either(work: Awaitable[None], stop: asyncio.Event) -> bool:
    """Do the work unless a signal comes first; tells whether the work was done."""
    doing = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if doing.done():
        doing.result()
        return True
    doing.cancel()
    return False


def _describe(repository: Repository, address: str, http: str, provider: str) -> Ready:
    versions = repository.versions
    ready = [version.file.name for version in versions if version.can_be_asked]
    return Ready(
        address=address,
        metrics_url=f"http://{http}/metrics",
        provider=provider,
        models=tuple(dict.fromkeys(ready)),
        failed=tuple(
            (str(version.file.path), version.reason)
            for version in versions
            if version.state is State.FAILED
        ),
    )
