"""A client made of python-hyper's h2, which checks what it gets, and can send what is illegal."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from h2 import events
from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.settings import SettingCodes, Settings
from hyperframe.frame import Frame

PATIENCE_SECONDS = 10
FRAME_BYTES = 16_384

HEADERS = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/test/Echo",
    ":authority": "localhost",
    "te": "trailers",
    "content-type": "application/grpc",
}


@dataclass
class Answer:
    """What came back on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        """Of gRPC."""
        return int({**self.headers, **self.trailers}["grpc-status"])

    @property
    def message(self) -> str:
        """That explains the status."""
        return unquote({**self.headers, **self.trailers}.get("grpc-message", ""))

    @property
    def messages(self) -> list[bytes]:
        """The responses."""
        found, at = [], 0
        while at < len(self.data):
            end = at + 5 + int.from_bytes(self.data[at + 1 : at + 5])
            found.append(self.data[at + 5 : end])
            at = end
        return found


def framed(message: bytes, flag: int = 0) -> bytes:
    """A message of gRPC."""
    return bytes([flag]) + len(message).to_bytes(4) + message


class Peer:
    """One connection to a server in this process.

    Attributes:
        takes: whether it grants the server more once it has taken data.
        fault: the error code of the server's GOAWAY.
        is_closed: whether the server has closed the connection.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self.h2 = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding="utf-8",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.answers: dict[int, Answer] = {}
        self.takes = True
        self.fault: int | None = None
        self.last_stream: int | None = None
        self.pongs = 0
        self.is_closed = False
        self._input = b""

    async def greet(self, window: int | None = None) -> None:
        """Begin, with the given window of each stream, and know the server's settings."""
        if window is not None:
            values = {SettingCodes.INITIAL_WINDOW_SIZE: window}
            self.h2.local_settings = Settings(client=True, initial_values=values)
        self.h2.initiate_connection()
        self.flush()
        await self.until(lambda: self.h2.remote_settings.max_concurrent_streams < 2**31)

    def flush(self) -> None:
        """Send what h2 has to send."""
        if not self.is_closed:
            self.writer.write(self.h2.data_to_send())

    def raw(self, *frames: Frame | bytes) -> None:
        """Send frames that h2 knows nothing of."""
        self.flush()
        for frame in frames:
            self.writer.write(frame if isinstance(frame, bytes) else frame.serialize())

    def open(
        self,
        path: str = "/test/Echo",
        *data: bytes,
        end: bool = True,
        more: tuple[tuple[str, str], ...] = (),
        **headers: str,
    ) -> int:
        """Begin a call, send data, and end it; returns its stream."""
        stream = self.h2.get_next_available_stream_id()
        fields = {**HEADERS, ":path": path}
        fields.update({name.replace("_", "-"): value for name, value in headers.items()})
        self.answers[stream] = Answer()
        self.h2.send_headers(stream, [*fields.items(), *more], end_stream=end and not data)
        parts = [
            part[at : at + FRAME_BYTES]
            for part in data
            for at in range(0, len(part) or 1, FRAME_BYTES)
        ]
        for number, part in enumerate(parts, start=1):
            self.h2.send_data(stream, part, end_stream=end and number == len(parts))
        self.flush()
        return stream

    def reserve(self) -> int:
        """The stream of a call whose headers h2 believes sent, so that others can be."""
        stream: int = self.h2.get_next_available_stream_id()
        self.answers[stream] = Answer()
        self.flush()
        self.h2.send_headers(stream, list(HEADERS.items()))
        self.h2.clear_outbound_data_buffer()
        return stream

    async def until(self, holds: Callable[[], bool]) -> None:
        """Read until something holds, or fail."""
        self.flush()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds():
                assert not self.is_closed, "the connection was closed"
                try:
                    data = await self._reader.read(1 << 16)
                except ConnectionError:
                    data = b""
                self.is_closed = not data
                self._take(data)
                self.flush()

    async def answer(self, stream: int) -> Answer:
        """What a call is answered with, once it is over."""
        answer = self.answers[stream]
        await self.until(lambda: answer.ended or answer.reset is not None)
        return answer

    async def answered(self, stream: int, messages: int) -> None:
        """Wait until so many messages have come."""
        await self.until(lambda: len(self.answers[stream].messages) == messages)

    async def ask(self, *args: Any, **kwargs: Any) -> Answer:
        """Call, and return the answer."""
        return await self.answer(self.open(*args, **kwargs))

    async def closed(self) -> int | None:
        """Wait until the server closes the connection; returns the error code that it gave."""
        await self.until(lambda: self.is_closed)
        return self.fault

    async def in_step(self) -> None:
        """Wait until the server has taken all that was sent."""
        pongs = self.pongs
        self.h2.ping(b"in step!")
        self.flush()
        await self.until(lambda: self.pongs > pongs)

    def _take(self, data: bytes) -> None:
        """Take frames one by one: what comes after a GOAWAY is to be taken, too."""
        self._input += data
        while len(self._input) >= 9:
            end = 9 + int.from_bytes(self._input[:3])
            if len(self._input) < end:
                break
            frame, self._input = self._input[:end], self._input[end:]
            for event in self.h2.receive_data(frame):
                self._note(event)

    def _note(self, event: events.Event) -> None:
        stream: Any = getattr(event, "stream_id", None)
        answer = self.answers.setdefault(stream, Answer())
        if isinstance(event, events.ResponseReceived):
            answer.headers = dict(event.headers)  # type: ignore[arg-type]
        elif isinstance(event, events.TrailersReceived):
            answer.trailers = dict(event.headers)  # type: ignore[arg-type]
        elif isinstance(event, events.DataReceived):
            answer.data += event.data
            if self.takes:
                self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
        elif isinstance(event, events.StreamEnded):
            answer.ended = True
        elif isinstance(event, events.StreamReset):
            answer.reset = event.error_code
        elif isinstance(event, events.PingAckReceived):
            self.pongs += 1
        elif isinstance(event, events.ConnectionTerminated):
            self.fault, self.last_stream = event.error_code, event.last_stream_id
            # h2 would take no frames from now on, but calls that were begun go on.
            self.h2.state_machine.state = ConnectionState.CLIENT_OPEN


@contextlib.asynccontextmanager
async def connected(port: int, window: int | None = None) -> AsyncIterator[Peer]:
    """A connection that has begun; see `Peer.greet`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    peer = Peer(reader, writer)
    try:
        await peer.greet(window)
        yield peer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
