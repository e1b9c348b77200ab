"""What the server says of its health: over gRPC (`grpc.health.v1`) and to the HTTP probes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from convlens.server.errors import ModelNotFoundError
from convlens.server.probe_port import Probes

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

LIVENESS = "liveness"
READINESS = "readiness"


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Answers the RPCs of `grpc.health.v1.Health`.

    One who watches and does not take what is sent holds up nobody else, and misses what was true
    in between.
    """

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {}
        self._watchers: dict[str, set[asyncio.Event]] = {}  # each set when its service changes
        self._is_ending = False

    def set(self, service: str, status: int) -> None:
        """Note how a service is, and wake those who watch it."""
        self._statuses[service] = status
        for changed in self._watchers.get(service, ()):
            changed.set()

    def end(self) -> None:
        """Let those who watch have the latest, and go: whoever stops does not wait for them."""
        self._is_ending = True
        for watchers in self._watchers.values():
            for changed in watchers:
                changed.set()

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> health_pb2.HealthCheckResponse:
        """How a service is now."""
        if request.service not in self._statuses:
            raise ModelNotFoundError(f"no service {request.service!r}")
        return self._response(request.service)

    async def List(self, request: Any, context: Any) -> None:
        """Not answered: the models' names are not for everybody, and no token is asked for here."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "services are not listed")

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """How a service is, now and after each change."""
        changed = asyncio.Event()
        watchers = self._watchers.setdefault(request.service, set())
        watchers.add(changed)
        said = None
        try:
            while True:
                changed.clear()
                response = self._response(request.service)
                if response.status != said:
                    said = response.status
                    yield response
                if self._is_ending and not changed.is_set():
                    return
                await changed.wait()
        finally:
            watchers.discard(changed)
            if not watchers:
                del self._watchers[request.service]

    def _response(self, service: str) -> health_pb2.HealthCheckResponse:
        unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        status: Any = self._statuses.get(service, unknown)
        return health_pb2.HealthCheckResponse(status=status)


class Health:
    """Keeps both in step with the models.

    Over gRPC the empty name and `readiness` say whether requests can be answered, `liveness` that
    the process runs, and each model's name whether that model can be asked.

    Args:
        probes: of the HTTP port.
    """

    def __init__(self, probes: Probes) -> None:
        self.servicer = HealthServicer()
        self.probes = probes
        self._ready_models: set[str] = set()
        self._has_started = False

    def starting(self) -> None:
        """Say that the process lives and cannot be asked yet."""
        self.servicer.set(LIVENESS, SERVING)
        self._set_ready(False)

    def started(self) -> None:
        """Say from now on whether any model is ready."""
        self._has_started = True
        self._set_ready(bool(self._ready_models))

    def model_changed(self, name: str, ready: bool) -> None:
        """Note that a model has become ready, or is not any more."""
        if ready:
            self._ready_models.add(name)
        else:
            self._ready_models.discard(name)
        self.servicer.set(name, SERVING if ready else NOT_SERVING)
        if self._has_started:
            self._set_ready(bool(self._ready_models))

    def stopping(self) -> None:
        """Say that nothing new should be sent; the process lives on until its work is done."""
        self._has_started = False
        self._set_ready(False)
        for name in self._ready_models:
            self.servicer.set(name, NOT_SERVING)
        self.servicer.end()

    def _set_ready(self, ready: bool) -> None:
        self.probes.ready = ready
        for name in ("", READINESS):
            self.servicer.set(name, SERVING if ready else NOT_SERVING)
