"""One process that answers: its parts are started in order and stopped in reverse."""

import asyncio
import logging
import socket
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any

import prometheus_client
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from PIL import Image

from convlens.proto import (
    classifier_pb2,
    classifier_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
)
from convlens.server import simd
from convlens.server.access import Tokens
from convlens.server.administration import Administration
from convlens.server.classifier import ClassifierServicer
from convlens.server.edge import Edge
from convlens.server.health import Health
from convlens.server.http2 import GrpcServer, Limits
from convlens.server.inference_service import InferenceServicer
from convlens.server.judge import Jury
from convlens.server.memory import keep_imports, share_heaps
from convlens.server.metrics import Metrics
from convlens.server.port import open_port, warn_if_open
from convlens.server.probe_port import HttpPort, Probes
from convlens.server.providers import choose_provider
from convlens.server.ready import Ready
from convlens.server.repository import Repository
from convlens.server.settings import Settings
from convlens.server.signals import either, stop_signals
from convlens.server.uninterruptible import leave_it_behind
from convlens.server.version import State
from convlens.server.watcher import watch

logger = logging.getLogger(__name__)

SERVICES = (
    classifier_pb2.DESCRIPTOR.services_by_name["Classifier"].full_name,
    inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name,
    health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
    reflection.SERVICE_NAME,
)


class App:
    """The parts of a process that answers requests.

    Args:
        settings: of the server.
        administration: loads and unloads models on request; None: this process alone does.
        jury: decides of candidates; None: this process alone does.

    Raises:
        StartError: a part cannot be made.
    """

    def __init__(
        self,
        settings: Settings,
        administration: Administration | None = None,
        jury: Jury | None = None,
    ) -> None:
        share_heaps()
        Image.MAX_IMAGE_PIXELS = None  # the limit is ours: `Settings.max_pixels`
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.settings = settings
        self.metrics, self.probes = Metrics(), Probes()
        self._health = Health(self.probes)
        provider = choose_provider(settings.provider)
        if settings.approximate_decoding and (reason := simd.why_not()) is not None:
            logger.warning("--approximate-decoding: Pillow resizes, since %s", reason)
        self.repository = Repository(
            settings, provider, self.metrics, self._health.model_changed, jury
        )
        edge = self._edge(administration or self.repository)
        self._server = GrpcServer(
            edge.find,
            Limits(settings.max_message_bytes, settings.max_metadata_bytes, settings.held_memory),
        )
        self._background = [asyncio.create_task(_beat(self.probes))]

    async def __aenter__(self) -> "App":
        self._health.starting()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(0)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.repository.close()

    def listen(self, shared: Sequence[socket.socket] = ()) -> str:
        """Open the port; returns its address, "host:port".

        Args:
            shared: see `open_port`.

        Raises:
            StartError: it is in use, or may not be used; or a certificate cannot be read.
        """
        return open_port(self._server, self.settings, shared)

    async def answer(self) -> None:
        """Answer what comes in, if only that no model is ready yet."""
        self._server.start()

    async def load(self, unloaded: Collection[str] = ()) -> None:
        """Load the models, and say from then on that requests may be sent.

        Args:
            unloaded: the names of those that are not to be loaded until they are asked for.

        Raises:
            StartError: there is nothing to serve.
        """
        keep_imports()
        await self.repository.start(unloaded)
        self._health.started()
        if self.settings.watch:
            following = watch(self.settings.models, self.repository.refresh)
            self._background.append(asyncio.create_task(following))

    async def drain(self, stop_at_once: asyncio.Event) -> None:
        """Take nothing new, and finish what is in flight within its time."""
        self._health.stopping()
        grace_seconds = self.settings.grace_seconds
        logger.info("stopping: requests in flight have %g s to finish", grace_seconds)

        async def finish() -> None:
            await self.repository.stop_loading()
            await self._server.stop(grace_seconds)

        if not await either(finish(), stop_at_once):
            logger.warning("stopping at once")

    def describe(self, address: str, metrics_url: str = "") -> Ready:
        """What there is to say once the models are loaded."""
        versions = self.repository.versions
        loaded = [version.served.model for version in versions if version.served is not None]
        models = [version.file.name for version in versions if version.can_be_asked]
        return Ready(
            address=address,
            metrics_url=metrics_url,
            providers=tuple(dict.fromkeys(model.provider for model in loaded)),
            models=tuple(dict.fromkeys(models)),
            failed=tuple(
                (str(version.file.path), version.reason)
                for version in versions
                if version.state is State.FAILED
            ),
        )

    def _edge(self, administration: Administration) -> Edge:
        """All services, behind what is the same for all of them."""
        tokens = Tokens(self.settings.tokens) if self.settings.tokens else None
        edge = Edge(
            self.metrics.calls,
            tokens,
            self.settings.access_log,
            clients_apart=bool(self.settings.max_in_flight_per_client),
        )
        window = self.settings.stream_window
        server: Any = edge  # as far as generated code asks
        classifier_pb2_grpc.add_ClassifierServicer_to_server(
            ClassifierServicer(self.repository, window), server
        )
        inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
            InferenceServicer(self.repository, administration, self.probes, window), server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health.servicer, server)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(  # type: ignore[no-untyped-call]
            reflection.aio.ReflectionServicer(SERVICES), server
        )
        return edge


def run(settings: Settings, on_ready: Callable[[Ready], None]) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight; a second signal stops at once.

    Args:
        settings: of the server.
        on_ready: is called once, when requests are answered.

    Raises:
        StartError: the server cannot start.
    """
    warn_if_open(settings)
    run_loop(_serve(settings, on_ready))


def run_loop(work: Coroutine[None, None, None]) -> None:
    """Run an event loop until the work is done, the fastest one there is; see `leave_it_behind`."""
    try:
        import uvloop
    except ImportError:  # not to be had on Windows
        asyncio.run(work)
    else:
        uvloop.run(work)
    leave_it_behind()


async def _serve(settings: Settings, on_ready: Callable[[Ready], None]) -> None:
    with stop_signals() as stop:
        async with App(settings) as app:
            address = app.listen()
            with HttpPort(
                settings.metrics_host or settings.host,
                settings.metrics_port,
                app.metrics.registry,
                app.probes,
            ) as http:
                await app.answer()
                if await either(app.load(), stop.asked):
                    on_ready(app.describe(address, http.metrics_url))
                    await stop.asked.wait()
                await app.drain(stop.at_once)


async def _beat(probes: Probes) -> None:
    while True:
        probes.beat()
        await asyncio.sleep(1.0)
