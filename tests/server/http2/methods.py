"""Small methods whose messages are plain bytes, and a server of them in this process."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc

from convlens.server.http2 import Call, GrpcServer, Limits, Method

LIMITS = Limits(max_message_bytes=1 << 20, max_metadata_bytes=8192)


@dataclass
class Tally:
    """What the handlers have seen.

    Attributes:
        started: handlers that were started.
        cancelled: those that were cancelled.
        go: lets those go on that were cancelled and linger.
    """

    started: int = 0
    cancelled: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Served:
    """A server, its port, and what its handlers have seen."""

    server: GrpcServer
    port: int
    tally: Tally


def methods(tally: Tally) -> Callable[[str], Method | None]:
    """Finds the methods by their path, "/test/Echo" for the first."""

    async def echo(request: bytes, _: Call) -> bytes:
        tally.started += 1
        return request

    async def metadata(_: bytes, call: Call) -> bytes:
        return repr(call.invocation_metadata()).encode()

    async def zeros(request: bytes, _: Call) -> bytes:
        return bytes(int(request))

    async def repeat(request: bytes, _: Call) -> AsyncIterator[bytes]:
        try:
            for _number in range(int(request)):
                yield bytes(10_000)
        except (asyncio.CancelledError, GeneratorExit):
            tally.cancelled += 1
            raise

    async def join(requests: AsyncIterator[bytes], _: Call) -> bytes:
        return b"".join([request async for request in requests])

    async def chat(requests: AsyncIterator[bytes], _: Call) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    async def eager(requests: AsyncIterator[bytes], _: Call) -> AsyncIterator[bytes]:
        """Reads in a task of its own, and writes from this one."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()

        async def read() -> None:
            async for request in requests:
                queue.put_nowait(request)
            queue.put_nowait(None)

        reading = asyncio.create_task(read())
        try:
            while (request := await queue.get()) is not None:
                yield request
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def block(_requests: AsyncIterator[bytes], _: Call) -> bytes:
        """Reads nothing, and waits until it is cancelled."""
        tally.started += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            tally.cancelled += 1
            raise
        return b""

    async def linger(_request: bytes, _: Call) -> bytes:
        """Goes on after it was cancelled, until it is let go."""
        tally.started += 1
        try:
            await asyncio.Event().wait()
        finally:
            tally.cancelled += 1
            await tally.go.wait()
        return b""

    async def refuse(request: bytes, call: Call) -> bytes:
        await call.abort(
            grpc.StatusCode.FAILED_PRECONDITION,
            request.decode("utf-8", "surrogateescape"),
            (("reason-bin", b"\x00\xff"), ("reason", "ripe")),
        )

    async def early(_requests: AsyncIterator[bytes], _: Call) -> bytes:
        return b"enough"

    def fail(_: bytes) -> NoReturn:
        raise ZeroDivisionError

    def method(behavior: Callable[[Any, Any], Any], kind: str = "", **changes: Any) -> Method:
        parts: dict[str, Any] = {"read": bytes, "write": bytes, **changes}
        return Method(
            behavior,
            streams_requests="requests" in kind,
            generates="generates" in kind,
            responds="generates" not in kind,
            **parts,
        )

    found = {
        "/test/Echo": method(echo),
        "/test/Metadata": method(metadata),
        "/test/Zeros": method(zeros),
        "/test/Repeat": method(repeat, "generates"),
        "/test/Join": method(join, "requests"),
        "/test/Chat": method(chat, "requests generates"),
        "/test/Eager": method(eager, "requests generates"),
        "/test/Block": method(block, "requests"),
        "/test/Linger": method(linger),
        "/test/Refuse": method(refuse),
        "/test/Early": method(early, "requests"),
        "/test/Unreadable": method(echo, read=fail),
        "/test/Unwritable": method(echo, write=fail),
    }
    return found.get


@contextlib.asynccontextmanager
async def serving(limits: Limits = LIMITS) -> AsyncIterator[Served]:
    """A server on a free port; whatever it lets escape into the event loop is an error."""
    loop = asyncio.get_running_loop()
    escaped: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: escaped.append(context))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    tally = Tally()
    server = GrpcServer(methods(tally), limits)
    server.listen([listener], None)
    server.start()
    try:
        yield Served(server, listener.getsockname()[1], tally)
    finally:
        tally.go.set()
        await server.stop(0)
        loop.set_exception_handler(None)
        assert not escaped, escaped
