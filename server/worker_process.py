"""A worker as its supervisor sees it: a process, and the channel to it."""

import asyncio
import contextlib
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter

from convlens.server.channel import Channel, Handler
from convlens.server.errors import ProcessGoneError
from convlens.server.families import Families
from convlens.server.probe_port import HEARTBEAT_LIMIT_SECONDS
from convlens.server.promotion import Promotion
from convlens.server.ready import Ready

BEAT_SECONDS = 1.0
SCRAPE_SECONDS = 5.0


class WorkerProcess:
    """Made by `start`.

    Attributes:
        ready: what it said when it began to answer; None before.
        is_ready: whether requests may be sent, as it said last.
        failure: why it cannot start; empty where it said nothing.
        families: its metrics, as they were read last.
    """

    def __init__(self, process: Process, on_ready: Callable[[], None]) -> None:
        self.ready: Ready | None = None
        self.is_ready = False
        self.failure = ""
        self.families: Families = []
        self._process = process
        self._on_ready = on_ready
        self._ready_since = 0.0
        self._channel: Channel

    @classmethod
    async def start(
        cls,
        handlers: Mapping[str, Handler],
        on_ready: Callable[[], None],
        port: Sequence[socket.socket],
    ) -> "WorkerProcess":
        """Start a process.

        Args:
            handlers: of the supervisor, which it may call.
            on_ready: is called when it answers.
            port: bound; all workers answer there.

        Raises:
            OSError: the system has no process, or no descriptor, to spare.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                fds = [end.fileno() for end in (theirs, *port)]
                # -P: nothing in the folder where the server was started stands in for a package.
                command = (sys.executable, "-P", "-m", "convlens.server.worker", *map(str, fds))
                process = await asyncio.create_subprocess_exec(
                    *command, pass_fds=fds, stdin=DEVNULL
                )
        except OSError:
            ours.close()
            raise
        worker = cls(process, on_ready)
        own: dict[str, Handler] = {"ready": worker._note_ready, "failed": worker._note_failure}
        worker._channel = await Channel.open(ours, {**handlers, **own})
        return worker

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def served_seconds(self) -> float:
        """Since it became ready; 0 where it never did."""
        return time.monotonic() - self._ready_since if self.ready else 0.0

    async def ended(self) -> str:
        """Follow the process until it has ended; returns how."""
        heart = asyncio.create_task(self._watch())
        await self._channel.run()
        # Whoever closes the channel has ended, or is about to.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), HEARTBEAT_LIMIT_SECONDS)
        self.kill()
        code = await self._process.wait()
        heart.cancel()
        self.is_ready = False
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    async def read_metrics(self) -> None:
        """Ask for `families`; they stay as they are where no answer comes."""
        with contextlib.suppress(ProcessGoneError, TimeoutError):
            async with asyncio.timeout(SCRAPE_SECONDS):
                self.families = await self._channel.call("metrics")

    async def administer(self, action: str, name: str) -> None:
        """Have it load or unload a model.

        Raises:
            ProcessGoneError: it died before it had done so.
            ServerError: what it answered.
        """
        await self._channel.call("administer", action, name)

    async def promote(self, promotion: Promotion) -> None:
        """Have it let a candidate answer those who name no version."""
        with contextlib.suppress(ProcessGoneError):  # the one that replaces it will know
            await self._channel.call("promote", asdict(promotion))

    async def drain(self) -> None:
        """Have it finish what is in flight, and end."""
        with contextlib.suppress(ProcessGoneError):
            await self._channel.call("drain")

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _note_ready(self, fields: dict[str, Any]) -> None:
        self.ready = TypeAdapter(Ready).validate_python(fields)
        self.is_ready = bool(self.ready.models)
        self._ready_since = time.monotonic()
        self._on_ready()

    async def _note_failure(self, reason: str) -> None:
        self.failure = reason

    async def _watch(self) -> None:
        """Ask now and then whether it is ready; one whose loop hangs is ended."""
        try:
            while True:
                await asyncio.sleep(BEAT_SECONDS)
                if self.ready is not None:
                    async with asyncio.timeout(HEARTBEAT_LIMIT_SECONDS):
                        self.is_ready = await self._channel.call("is_ready")
        except TimeoutError:
            self.failure = f"it has not answered for {HEARTBEAT_LIMIT_SECONDS:g} s"
            self.kill()
        except ProcessGoneError:
            return
