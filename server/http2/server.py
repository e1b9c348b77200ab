"""The server's port: connections are accepted, looked after, and left in good order."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from convlens.server.http2.connection import Connection
from convlens.server.http2.held import Held
from convlens.server.http2.limits import Limits
from convlens.server.http2.method import FindMethod
from convlens.server.http2.wire import READ_BYTES

BACKLOG = 1024
CHECK_SECONDS = 5.0
SILENT_SECONDS = 60.0
PATIENCE_SECONDS = 20.0
HANDSHAKE_SECONDS = 10.0
FLUSH_SECONDS = 1.0  # that clients have to take the last answers
NO_FILES_SECONDS = 0.1  # after which a connection is tried again that there was no descriptor for
# Of those who share a port, each waits so long for every connection that it has before it takes
# another, and for every few takes one more at a time.
TURN_SECONDS = 0.001
LONGEST_TURN_SECONDS = 0.010
TURN_CONNECTIONS = 8

logger = logging.getLogger(__name__)

TlsContext = Callable[[], ssl.SSLContext]


class GrpcServer:
    """Answers calls on sockets.

    Args:
        find: a method by its path.
        limits: of each call.
    """

    def __init__(self, find: FindMethod, limits: Limits) -> None:
        self._find = find
        self._limits = limits
        self._connections: set[Connection] = set()
        self._held = Held(max(limits.held_bytes, 2 * limits.max_message_bytes), self._connections)
        self._sockets: list[socket.socket] = []
        self._inbox = memoryview(bytearray(READ_BYTES))
        self._tls: TlsContext | None = None
        self._is_shared = False
        self._tasks: set[asyncio.Task[None]] = set()

    def listen(
        self,
        sockets: Sequence[socket.socket],
        tls: TlsContext | None,
        *,
        shared: bool = False,
    ) -> None:
        """Take sockets, which are bound.

        Args:
            sockets: belong to the server from now on.
            tls: makes the context of each connection; None for plain text.
            shared: whether other processes take connections from the same sockets.
        """
        self._tls = tls
        self._is_shared = shared
        self._sockets.extend(sockets)
        for listener in sockets:
            listener.listen(BACKLOG)
            listener.setblocking(False)

    def start(self) -> None:
        """Answer calls from now on."""
        for listener in self._sockets:
            self._spawn(self._accept(listener))
        self._spawn(self._look_after())

    async def stop(self, grace_seconds: float) -> None:
        """Take no new calls, and give those in flight so long; then cancel them."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listener in self._sockets:
            listener.close()
        for connection in list(self._connections):
            connection.leave()
        await self._until_gone(grace_seconds)
        for connection in list(self._connections):
            connection.end_calls("the server is stopping")
        await self._until_gone(FLUSH_SECONDS)
        for connection in list(self._connections):
            connection.abort()
        await self._until_gone(FLUSH_SECONDS)

    async def _until_gone(self, seconds: float) -> None:
        """Wait for all connections to close, at most so long."""
        gone = [connection.gone for connection in self._connections]
        if gone:
            await asyncio.wait(gone, timeout=seconds)

    async def _accept(self, listener: socket.socket) -> None:
        is_failing = False
        while True:
            await _readable(listener)
            try:
                for _ in range(await self._turn() if self._is_shared else BACKLOG):
                    connection, _ = listener.accept()
                    is_failing = False
                    self._spawn(self._welcome(connection))
            except BlockingIOError:  # there are no more, or another process took them
                continue
            except OSError as error:  # most likely there are too many open files
                if not is_failing:
                    logger.warning("connections cannot be accepted: %s", error)
                is_failing = True
                await asyncio.sleep(NO_FILES_SECONDS)

    async def _turn(self) -> int:
        """Let those who have fewer connections go first; returns how many to take then.

        The more there are, the less does one more or less matter.
        """
        load = len(self._connections) + len(self._tasks)  # some of these are handshakes
        await asyncio.sleep(min(load * TURN_SECONDS, LONGEST_TURN_SECONDS))
        return 1 + load // TURN_CONNECTIONS

    async def _welcome(self, accepted: socket.socket) -> None:
        """Make a connection of a socket; its TLS handshake is its own affair."""
        tls = self._tls() if self._tls is not None else None
        connection = Connection(
            self._find, self._limits, self._held, self._connections, self._inbox
        )
        with contextlib.suppress(OSError):  # whoever it was has gone, or speaks no TLS
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if tls else None,
            )

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            for connection in list(self._connections):
                connection.check(SILENT_SECONDS, PATIENCE_SECONDS)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _readable(listener: socket.socket) -> None:
    """Wait until somebody connects."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(listener, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(listener)
