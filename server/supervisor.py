"""The process above several workers: starts them, replaces one that dies, ends them together."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, ProcessCollector
from prometheus_client.registry import Collector
from pydantic import ByteSize

from convlens.server.channel import Handler
from convlens.server.errors import ModelNotFoundError, ProcessGoneError, ServerError, StartError
from convlens.server.families import (
    Families,
    accumulated,
    merge_families,
    read_families,
    to_metrics,
)
from convlens.server.judge import Contest, Judge
from convlens.server.port import bound_sockets, warn_if_open
from convlens.server.probe_port import HttpPort, Probes
from convlens.server.processors import processor_count
from convlens.server.promotion import Promotion, Promotions
from convlens.server.ready import Ready
from convlens.server.settings import Settings
from convlens.server.signals import Stop, either, stop_signals
from convlens.server.worker_process import WorkerProcess

logger = logging.getLogger(__name__)

# How long to wait before the next worker, after so many deaths in a row.
PAUSES_SECONDS = (0.0, 0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

# One that has answered for so long and then dies begins a new row.
STABLE_SECONDS = 10.0

# After so many deaths in a row before it was ready, where nobody else answers either.
GIVE_UP_AFTER = 3


def run(settings: Settings, on_ready: Callable[[Ready], None]) -> None:
    """Serve with several processes; see `convlens.server.app.run`.

    Raises:
        StartError: the server cannot start, or no worker stays alive until it is ready.
    """
    warn_if_open(settings)
    asyncio.run(_supervise(settings, on_ready))


async def _supervise(settings: Settings, on_ready: Callable[[Ready], None]) -> None:
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    with stop_signals() as stop, ExitStack() as port:
        sockets = [port.enter_context(listener) for listener in bound_sockets(settings)]
        supervisor = Supervisor(_of_each_worker(settings, sockets), on_ready, sockets)
        registry.register(_Page(supervisor, asyncio.get_running_loop()))
        host = settings.metrics_host or settings.host
        with HttpPort(host, settings.metrics_port, registry, supervisor.probes) as http:
            await supervisor.run(stop, http.metrics_url)


def _of_each_worker(settings: Settings, port: Sequence[socket.socket]) -> Settings:
    """The settings of one worker: processors and memory are shared out."""
    share = {
        "port": port[0].getsockname()[1],
        "threads": settings.threads or max(1, processor_count() // settings.workers),
        "memory_budget": ByteSize(-(-settings.memory_budget // settings.workers)),  # 0 is none
    }
    return settings.model_copy(update=share)


class Supervisor:
    """Keeps so many workers alive as the settings say.

    Args:
        settings: of each worker.
        on_ready: is called once, when all are ready.
        port: bound. All workers answer there: what waits to be accepted outlives each of them.

    Attributes:
        probes: of the HTTP port.
        registry: of the metrics that are its own.
    """

    def __init__(
        self,
        settings: Settings,
        on_ready: Callable[[Ready], None],
        port: Sequence[socket.socket],
    ) -> None:
        self.probes = Probes()
        self._port = port
        self._settings = settings
        self._on_ready = on_ready
        self._metrics_url = ""
        self._workers: dict[int, WorkerProcess] = {}
        self._stop = asyncio.Event()
        self._has_started = False
        self._unloaded: set[str] = set()
        self._administering = asyncio.Lock()
        self._departed: Families = []
        self._promotions = Promotions(settings.models)
        self._judge = Judge(settings, self._promotions, self._promote)
        handlers = (self.assignment, self.administer, self.count)
        self._handlers: dict[str, Handler] = {call.__name__: call for call in handlers}
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._deaths = Counter(
            "convlens_worker_deaths_total",
            "Workers that died and were replaced.",
            registry=self.registry,
        )
        Gauge("convlens_workers", "Workers that are ready.", registry=self.registry).set_function(
            lambda: sum(worker.is_ready for worker in self._workers.values())
        )

    async def run(self, stop: Stop, metrics_url: str) -> None:
        """Keep the workers alive until it is to stop, then let them finish, or kill them at once.

        Raises:
            StartError: a worker cannot start, or none is left and none stays alive.
        """
        self._metrics_url = metrics_url
        keepers = [
            asyncio.create_task(self._keep(number)) for number in range(self._settings.workers)
        ]
        heart = asyncio.create_task(self._beat())
        try:
            await either(asyncio.wait(keepers, return_when=asyncio.FIRST_EXCEPTION), stop.asked)
            for keeper in keepers:
                if keeper.done():
                    keeper.result()
            await self._drain(keepers, stop.at_once)
        finally:
            self._stop.set()
            for worker in self._workers.values():
                worker.kill()
            await asyncio.gather(*keepers, return_exceptions=True)
            heart.cancel()

    async def _drain(self, keepers: list["asyncio.Task[None]"], at_once: asyncio.Event) -> None:
        self._stop.set()
        self.probes.ready = False
        for listener in self._port:  # else connections would wait there for nobody
            listener.close()

        async def finish() -> None:
            for worker in self._workers.values():
                if not worker.ready:
                    worker.kill()
            await asyncio.gather(*(worker.drain() for worker in self._workers.values()))
            await asyncio.wait(keepers)

        if not await either(finish(), at_once):
            logger.warning("stopping at once")

    async def metrics(self) -> Families:
        """The metrics of all workers, those that are gone included, as one page."""
        await asyncio.gather(*(worker.read_metrics() for worker in self._workers.values()))
        # Asked for again: one that died meanwhile is among the departed now.
        pages = [worker.families for worker in self._workers.values()]
        return merge_families([read_families(self.registry), self._departed, *pages])

    async def assignment(self) -> dict[str, Any]:
        """What a worker that starts must know."""
        return {
            "settings": self._settings.model_dump(mode="json"),
            "unloaded": sorted(self._unloaded),
            "promoted": [asdict(promotion) for promotion in self._promotions],
        }

    async def administer(self, action: str, name: str) -> None:
        """Have every worker load or unload a model; those that start later will know.

        Raises:
            ServerError: what a worker answered.
        """
        async with self._administering:
            was_unloaded = name in self._unloaded
            self._mark(name, unloaded=action == "unload")
            answers = await asyncio.gather(
                *(worker.administer(action, name) for worker in self._workers.values()),
                return_exceptions=True,
            )
            failures = [answer for answer in answers if isinstance(answer, ServerError)]
            # One that died meanwhile is replaced by one that knows.
            failures = [error for error in failures if not isinstance(error, ProcessGoneError)]
            if any(isinstance(error, ModelNotFoundError) for error in failures):
                self._mark(name, unloaded=was_unloaded)
            if failures:  # what could not be loaded is wanted all the same
                raise failures[0]

    async def count(self, contest: Mapping[str, Any], agreed: int, compared: int) -> None:
        """Take note of what a worker compared; see `Judge.count`."""
        candidate = Promotion(**contest["candidate"])
        await self._judge.count(Contest(candidate, contest["rival_sha256"]), agreed, compared)

    async def _promote(self, promotion: Promotion) -> None:
        await asyncio.gather(*(worker.promote(promotion) for worker in self._workers.values()))

    def _mark(self, name: str, *, unloaded: bool) -> None:
        if unloaded:
            self._unloaded.add(name)
        else:
            self._unloaded.discard(name)

    async def _keep(self, number: int) -> None:
        """Start a worker, and another one each time that it dies."""
        deaths = 0
        while not self._stop.is_set():
            try:
                worker = await WorkerProcess.start(self._handlers, self._ready, self._port)
            except OSError as error:  # of processes or descriptors there are none to be had now
                deaths += 1
                self._hope(number, deaths, str(error))
                logger.error("worker %d cannot be started now: %s", number, error)
            else:
                how = await self._follow_to_its_end(number, worker)
                if self._stop.is_set():
                    return
                deaths = 1 if worker.served_seconds > STABLE_SECONDS else deaths + 1
                self._weigh(number, worker, deaths, how)
            pause_seconds = PAUSES_SECONDS[min(deaths, len(PAUSES_SECONDS) - 1)]
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause_seconds)

    async def _follow_to_its_end(self, number: int, worker: WorkerProcess) -> str:
        """Have a worker among the others until it dies; returns how it died."""
        self._workers[number] = worker
        if self._stop.is_set():
            worker.kill()
        how = await worker.ended()
        del self._workers[number]
        self._departed = merge_families([self._departed, accumulated(worker.families)])
        return how

    def _weigh(self, number: int, worker: WorkerProcess, deaths: int, how: str) -> None:
        """Report a death; raises StartError where there is no hope in another try."""
        if worker.failure and not self._has_started:
            raise StartError(worker.failure)
        reason = worker.failure or how
        if not worker.ready:
            self._hope(number, deaths, reason)
        self._deaths.inc()
        logger.error("worker %d (process %d) is replaced: %s", number, worker.pid, reason)

    def _hope(self, number: int, deaths: int, reason: str) -> None:
        """Raise StartError where a worker failed again and again, and nobody else answers."""
        alone = not any(other.is_ready for other in self._workers.values())
        if deaths >= GIVE_UP_AFTER and (alone or not self._has_started):
            raise StartError(f"worker {number} never became ready, {deaths} times: {reason}")

    def _ready(self) -> None:
        """Note that one more worker answers."""
        self._follow()
        ready = [worker.ready for worker in self._workers.values() if worker.ready]
        if len(ready) == self._settings.workers and not self._has_started:
            self._has_started = True
            self._on_ready(replace(ready[0], metrics_url=self._metrics_url))

    def _follow(self) -> None:
        serving = any(worker.is_ready for worker in self._workers.values())
        self.probes.ready = serving and not self._stop.is_set()

    async def _beat(self) -> None:
        while True:
            self.probes.beat()
            self._follow()
            await asyncio.sleep(1.0)


class _Page(Collector):
    """The metrics of the whole server, for the HTTP port's thread."""

    def __init__(self, supervisor: Supervisor, loop: asyncio.AbstractEventLoop) -> None:
        self._supervisor = supervisor
        self._loop = loop

    def collect(self) -> Iterable[Metric]:
        families = asyncio.run_coroutine_threadsafe(self._supervisor.metrics(), self._loop)
        return to_metrics(families.result())
