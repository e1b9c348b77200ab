"""Load on a server that shares its processors with what sends it: open and closed loops."""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Sequence
from typing import Self

from connection import NO_DEADLINE, Call, Connection
from packed_request import pack_head

CONNECTIONS = 4
_PATIENCE_SECONDS = 0.05  # after the last deadline: all calls are over by then


async def closed_loop(sender: "Sender", in_flight: int, seconds: float) -> list[Call]:
    """Keep so many requests in flight for so long; returns the calls when the last is answered."""
    loop = asyncio.get_running_loop()
    until = time.perf_counter() + seconds
    numbers = itertools.count()

    async def caller() -> None:
        while time.perf_counter() < until:
            answered: asyncio.Future[Call] = loop.create_future()
            sender.ask(next(numbers), NO_DEADLINE, answered.set_result)
            await answered

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return sender.read()


async def open_loop(
    sender: "Sender", rate: float, seconds: float, deadline_seconds: float
) -> float:
    """Send so many requests a second, at random times, and wait until each has its end.

    Returns:
        The most seconds that the sender fell behind its own timetable.
    """
    rng = random.Random(0)
    start = due = time.perf_counter()
    behind = 0.0
    for number in itertools.count():
        if due >= start + seconds:
            break
        now = time.perf_counter()
        behind = max(behind, now - due)
        await asyncio.sleep(max(0.0, due - now))  # also where it is late: answers must be taken
        sender.ask(number, deadline_seconds)
        due += rng.expovariate(rate)
    await asyncio.sleep(deadline_seconds + _PATIENCE_SECONDS)
    return behind


class Sender:
    """Asks one server, over a few connections in turn; an async context manager.

    Args:
        address: host:port.
        method: "/package.Service/Method".
        messages: that may be sent, by number.
    """

    def __init__(self, address: str, method: str, messages: Sequence[bytes]) -> None:
        self._address = address
        self._head = pack_head(address, method)
        self._messages = messages
        self._connections: list[Connection] = []
        self._calls: list[Call] = []

    async def __aenter__(self) -> Self:
        """Connect."""
        host, _, port = self._address.rpartition(":")
        loop = asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            _, connection = await loop.create_connection(
                lambda: Connection(self._head, self._messages), host, int(port)
            )
            self._connections.append(connection)
            await connection.ready
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()

    def ask(
        self, request: int, deadline_seconds: float, ended: Callable[[Call], None] | None = None
    ) -> None:
        """Send a request; `ended` is called at its end, before its status is known."""
        call = Call(request % len(self._messages), time.perf_counter(), deadline_seconds, ended)
        connection = self._connections[len(self._calls) % CONNECTIONS]
        self._calls.append(call)
        connection.ask(call)

    def read(self) -> list[Call]:
        """All calls, with what those that have ended were answered."""
        for connection in self._connections:
            connection.unpack()
        return self._calls
