"""What the server says of its health: over gRPC (`grpc.health.v1`) and to the HTTP probes."""

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio

from convlens.server.probe_port import Probes

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

LIVENESS = "liveness"
READINESS = "readiness"


class Health:
    """Keeps both in step with the models.

    Over gRPC the empty name and `readiness` say whether requests can be answered, `liveness` that
    the process runs, and each model's name whether that model can be asked.

    Args:
        probes: of the HTTP port.
    """

    def __init__(self, probes: Probes) -> None:
        self.servicer = aio.HealthServicer()
        self.probes = probes
        self._ready_models: set[str] = set()
        self._has_started = False

    async def starting(self) -> None:
        """Say that the process lives and cannot be asked yet."""
        await self.servicer.set(LIVENESS, SERVING)
        await self._set_ready(False)

    async def started(self) -> None:
        """Say from now on whether any model is ready."""
        self._has_started = True
        await self._set_ready(bool(self._ready_models))

    async def model_changed(self, name: str, ready: bool) -> None:
        """Note that a model has become ready, or is not any more."""
        if ready:
            self._ready_models.add(name)
        else:
            self._ready_models.discard(name)
        await self.servicer.set(name, SERVING if ready else NOT_SERVING)
        if self._has_started:
            await self._set_ready(bool(self._ready_models))

    async def stopping(self) -> None:
        """Say that nothing new should be sent; the process lives on until its work is done."""
        self._has_started = False
        await self._set_ready(False)
        for name in self._ready_models:
            await self.servicer.set(name, NOT_SERVING)

    async def _set_ready(self, ready: bool) -> None:
        self.probes.ready = ready
        for name in ("", READINESS):
            await self.servicer.set(name, SERVING if ready else NOT_SERVING)
