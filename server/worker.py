"""One worker of a server with several: it serves as its supervisor says, and ends with it.

python -m convlens.server.worker FD PORT_FD...

FD is a socket that is connected with the supervisor, the others are bound to the gRPC port.
"""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from convlens.server.administration import SharedAdministration
from convlens.server.app import App, run_loop
from convlens.server.channel import Channel, Handler
from convlens.server.errors import ProcessGoneError, StartError
from convlens.server.families import Families, read_families
from convlens.server.judge import SharedJury
from convlens.server.logs import configure_logs
from convlens.server.promotion import Promotion
from convlens.server.settings import Settings
from convlens.server.signals import STOP_SIGNALS, either


def main() -> None:
    """Serve until the supervisor says so, or is gone."""
    for number in STOP_SIGNALS:  # a terminal or systemd sends them to all; the supervisor decides
        signal.signal(number, signal.SIG_IGN)
    end, *port = (socket.socket(fileno=int(word)) for word in sys.argv[1:])
    run_loop(_work(end, port))


class Worker:
    """What the supervisor may call.

    Args:
        port: bound; the other workers answer there, too.
    """

    def __init__(self, port: Sequence[socket.socket]) -> None:
        self.port = port
        self.stop = asyncio.Event()
        self.has_loaded = asyncio.Event()
        self.app: App | None = None

    async def drain(self) -> None:
        """Finish what is in flight, then end."""
        self.stop.set()

    async def metrics(self) -> Families:
        """What /metrics would show of this process."""
        return read_families(self.app.metrics.registry) if self.app else []

    async def is_ready(self) -> bool:
        """Whether requests may be sent."""
        return self.app is not None and self.app.probes.ready

    async def administer(self, action: str, name: str) -> None:
        """Load or unload a model, once those of the start are there."""
        await self.has_loaded.wait()
        assert self.app is not None
        repository = self.app.repository
        await (repository.load(name) if action == "load" else repository.unload(name))

    async def promote(self, promotion: dict[str, Any]) -> None:
        """Let a candidate answer those who name no version, once those of the start are there."""
        await self.has_loaded.wait()
        assert self.app is not None
        await self.app.repository.promote(Promotion(**promotion))


async def _work(end: socket.socket, port: Sequence[socket.socket]) -> None:
    worker = Worker(port)
    calls = (worker.drain, worker.metrics, worker.is_ready, worker.administer, worker.promote)
    handlers: dict[str, Handler] = {call.__name__: call for call in calls}
    supervisor = await Channel.open(end, handlers)
    listening = asyncio.create_task(supervisor.run())
    listening.add_done_callback(lambda _: worker.stop.set())
    with contextlib.suppress(ProcessGoneError):  # the supervisor died while this one was starting
        try:
            await _serve(worker, supervisor)
        except StartError as error:
            await supervisor.call("failed", str(error))


async def _serve(worker: Worker, supervisor: Channel) -> None:
    assignment = await supervisor.call("assignment")
    settings = Settings.model_validate(assignment["settings"])
    configure_logs(settings.log_format)
    async with App(settings, SharedAdministration(supervisor), SharedJury(supervisor)) as app:
        worker.app = app
        if await either(_start(worker, app, assignment, supervisor), worker.stop):
            await worker.stop.wait()
        await app.drain(stop_at_once=asyncio.Event())


async def _start(
    worker: Worker, app: App, assignment: Mapping[str, Any], supervisor: Channel
) -> None:
    await app.load(assignment["unloaded"])
    for promotion in assignment["promoted"]:
        await app.repository.promote(Promotion(**promotion))
    worker.has_loaded.set()
    # Only now: while models are loaded, connections go to those workers that can answer.
    address = app.listen(worker.port)
    await app.answer()
    await supervisor.call("ready", asdict(app.describe(address)))


if __name__ == "__main__":
    main()
